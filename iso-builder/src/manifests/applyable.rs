//! Is this a text that `kubectl apply -f` takes, and if not, what is it instead?

use bootstrap::failure::{Code, Failure};

use super::document::{Budget, Document, Fields};
use super::events::invalid;
use super::found::shown;
use super::objects::{self, Head};
use crate::text::check_text;

const RENDER: &str = "render the chart first: helm template NAME CHART > FILE, and name that file";

/// Accepts a text of Kubernetes objects that `kubectl apply -f` takes; `what` names it in messages.
///
/// # Errors
/// `CONTENT_INVALID` with the line says what the text is instead: an error page, a file of a Helm chart, a
/// kustomization, a template, no object at all.
pub fn check_applyable(what: &str, text: &str) -> Result<(), Failure> {
    let named = |failure: Failure| Failure { what: format!("{what}: {}", failure.what), ..failure };
    check_text(what, text.as_bytes())?;
    let mut count = 0;
    let outcome = objects::each(text, &mut |document, head| {
        count += 1;
        check(document, head)
    });
    match outcome {
        Ok(()) if count == 0 => Err(Failure::new(Code::ContentInvalid, format!("{what}: holds no Kubernetes object"))
            .with_remedy("name a manifest that kubectl apply -f takes")),
        Ok(()) => Ok(()),
        Err(failure) if is_template(text) => {
            Err(named(failure.with_remedy(format!("the text has {{{{ }}}} of a template: {RENDER}"))))
        }
        Err(failure) => Err(named(failure)),
    }
}

/// Whether something of a Go template stands outside comments.
fn is_template(text: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains("{{"))
}

fn check(document: &Document<'_>, head: &Head) -> Result<(), Failure> {
    let wrong = |cause: &str, remedy: &str| Err(invalid(head.place, cause).with_remedy(remedy));
    let Some(fields) = document.fields(head.id, &mut Budget::new())? else {
        return wrong("is no Kubernetes object", "name a manifest that kubectl apply -f takes");
    };
    let has = |key: &str| fields.get(key).is_some();
    if head.group() == "kustomize.config.k8s.io" {
        return wrong("is a kustomization", "build it first: kubectl kustomize DIRECTORY > FILE, and name that file");
    }
    if head.api_version.is_empty() || head.kind.is_empty() {
        let (cause, remedy) = instead(head, &fields);
        return wrong(&cause, remedy);
    }
    if head.name.is_empty() && !head.kind.ends_with("List") {
        let cause = match has("metadata") {
            true => format!("the {} has no metadata.name", shown(&head.kind)),
            false => format!("a {} is no object of the cluster: it has no metadata", shown(&head.kind)),
        };
        return wrong(&cause, "name a manifest that kubectl apply -f takes");
    }
    Ok(())
}

/// What a mapping without apiVersion or kind is, and what to do.
fn instead(head: &Head, fields: &Fields<'_>) -> (String, &'static str) {
    let has = |key: &str| fields.get(key).is_some();
    let kustomization = ["resources", "bases", "namePrefix", "patchesStrategicMerge", "configMapGenerator"];
    let cause = match () {
        () if has("name") && has("version") && has("apiVersion") => "is the Chart.yaml of a Helm chart",
        () if has("entries") && has("apiVersion") => "is the index of a Helm repository",
        () if kustomization.into_iter().any(has) && !has("image") => {
            let remedy = "build it first: kubectl kustomize DIRECTORY > FILE, and name that file";
            return ("has no apiVersion and kind: is it a kustomization?".to_owned(), remedy);
        }
        () if has("services") => "has no apiVersion and kind: is it a compose file?",
        () if has("404") || has("message") => {
            let remedy = "correct the URL: this is a server's answer that there is nothing";
            return ("has no apiVersion and kind: it is an error message".to_owned(), remedy);
        }
        () if head.api_version.is_empty() && head.kind.is_empty() => {
            "has no apiVersion and kind: is it the values.yaml of a Helm chart?"
        }
        () if head.kind.is_empty() => "has no kind",
        () => "has no apiVersion",
    };
    (cause.to_owned(), RENDER)
}
