//! What objects a text holds: one per document, those of a `List` each for itself.

use bootstrap::failure::Failure;

use super::Object;
use super::document::{Budget, Document, Documents, Fields, Id, Value};
use super::events::{MAX_DEPTH, Place, invalid, too_deep};
use super::found::shown;

/// Objects of one text.
pub const MAX_OBJECTS: usize = 50_000;

/// The objects that the manifests in `text` hold, in order; empty documents are none.
///
/// # Errors
/// `CONTENT_INVALID` with line and column where the text is no YAML or beyond a limit.
pub fn objects(text: &str) -> Result<Vec<Object>, Failure> {
    let mut found = Vec::new();
    each(text, &mut |_, head| {
        if found.len() >= MAX_OBJECTS {
            return Err(invalid(head.place, format!("more than {MAX_OBJECTS} objects")));
        }
        let [api_version, kind, namespace, name] =
            [&head.api_version, &head.kind, &head.namespace, &head.name].map(|text| shown(text));
        found.push(Object { api_version, kind, namespace, name, line: head.place.line });
        Ok(())
    })?;
    Ok(found)
}

/// What an object says of itself.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: Id,
    pub(super) place: Place,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Head {
    /// `Deployment kube-system/coredns`.
    pub(super) fn title(&self) -> String {
        let Self { kind, namespace, name, .. } = self;
        let kind = shown(kind);
        match (namespace.as_str(), name.as_str()) {
            (_, "") => kind,
            ("", name) => format!("{kind} {}", shown(name)),
            (namespace, name) => format!("{kind} {}/{}", shown(namespace), shown(name)),
        }
    }

    /// The group of the API: empty for `v1`, `apps` for `apps/v1`.
    pub(super) fn group(&self) -> &str {
        self.api_version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    fn read(document: &Document<'_>, id: Id, fields: &Fields<'_>, budget: &mut Budget) -> Result<Self, Failure> {
        let text = |fields: &Fields<'_>, key| {
            let text = fields.get(key).and_then(|id| document.text(id));
            text.unwrap_or_default().chars().take(512).collect::<String>()
        };
        let metadata = match fields.get("metadata") {
            Some(metadata) => document.fields(metadata, budget)?.unwrap_or_default(),
            None => Fields::default(),
        };
        Ok(Self {
            id,
            place: document.place(id),
            api_version: text(fields, "apiVersion"),
            kind: text(fields, "kind"),
            namespace: text(&metadata, "namespace"),
            name: text(&metadata, "name"),
        })
    }
}

/// Calls `act` for every object of `text` with the document it lies in.
pub(super) fn each(
    text: &str,
    act: &mut impl FnMut(&Document<'_>, &Head) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut documents = Documents::new(text)?;
    let mut budget = Budget::new();
    while let Some(document) = documents.next()? {
        if !document.is_null(Document::ROOT) {
            each_of(&document, Document::ROOT, 0, None, &mut budget, act)?;
        }
    }
    Ok(())
}

/// Calls `act` for the object at `id`, or for the items of the `List` at `id`.
pub(super) fn each_of(
    document: &Document<'_>,
    id: Id,
    depth: usize,
    list: Option<&Head>,
    budget: &mut Budget,
    act: &mut impl FnMut(&Document<'_>, &Head) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let place = document.place(id);
    budget.spend(1, place)?;
    if depth > MAX_DEPTH {
        return Err(too_deep(place));
    }
    let fields = document.fields(id, budget)?.unwrap_or_default();
    let mut head = Head::read(document, id, &fields, budget)?;
    // A DeploymentList need not say of each item that it is a Deployment.
    if let Some(list) = list
        && head.kind.is_empty()
    {
        head.kind = list.kind.strip_suffix("List").unwrap_or_default().to_owned();
        head.api_version.clone_from(&list.api_version);
    }
    let items = fields.get("items").map(|items| &document.node(items).value);
    match items {
        Some(Value::Sequence(items)) if head.kind.ends_with("List") => {
            for item in items {
                each_of(document, *item, depth + 1, Some(&head), budget, act)?;
            }
            Ok(())
        }
        _ => act(document, &head),
    }
}
