//! Walks objects for the images that they name. The API's own kinds name them in pod specs alone; a
//! custom resource also in fields of its own ([`super::custom`]).

use bootstrap::bundle::reference;
use bootstrap::failure::Failure;

use super::document::{Budget, Document, Documents, Fields, Id, Value};
use super::embedded::{self, Shift};
use super::events::{MAX_DEPTH, Place, invalid, too_deep};
use super::found::{Found, Spot, Step, path, shown};
use super::objects::{self, Head};
use super::{Origin, Survey};

pub(super) fn survey(text: &str) -> Result<Survey, Failure> {
    let mut found = Found::new();
    let mut documents = Documents::new(text)?;
    while let Some(document) = documents.next()? {
        for head in heads(&document, &mut found.budget)? {
            Walk::new(&document, &mut found, head.title(), &head).object(&head)?;
        }
    }
    let mut survey = found.survey;
    survey.references.sort_by_key(|reference| (reference.line, reference.column));
    survey.unclear.sort_by_key(|unclear| (unclear.line, unclear.column));
    Ok(survey)
}

/// The objects of a document.
pub(super) fn heads(document: &Document<'_>, budget: &mut Budget) -> Result<Vec<Head>, Failure> {
    let mut heads = Vec::new();
    if !document.is_null(Document::ROOT) {
        objects::each_of(document, Document::ROOT, 0, None, budget, &mut |_, head| {
            if heads.len() >= objects::MAX_OBJECTS {
                return Err(invalid(head.place, format!("more than {} objects", objects::MAX_OBJECTS)));
            }
            heads.push(head.clone());
            Ok(())
        })?;
    }
    Ok(heads)
}

/// What a mapping is to whom it belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Container,
    Volume,
    Other,
}

/// A walk through one object.
pub(super) struct Walk<'d, 'a, 'w> {
    pub(super) document: &'d Document<'a>,
    pub(super) found: &'w mut Found,
    pub(super) object: String,
    pub(super) steps: Vec<Step<'d>>,
    /// Whether the kind is one of the API's own; else a custom resource.
    builtin: bool,
    /// Where the text lies that this document was read from, when inside another.
    pub(super) shift: Option<Shift>,
}

impl<'d, 'a, 'w> Walk<'d, 'a, 'w> {
    pub(super) fn new(document: &'d Document<'a>, found: &'w mut Found, object: String, head: &Head) -> Self {
        // Every group without a dot is the API's own, and no other.
        let builtin = !head.group().contains('.');
        Self { document, found, object, steps: Vec::new(), builtin, shift: None }
    }

    pub(super) fn object(&mut self, head: &Head) -> Result<(), Failure> {
        let Some(fields) = self.document.fields(head.id, &mut self.found.budget)? else { return Ok(()) };
        match (head.group(), head.kind.as_str()) {
            (_, "") | ("apiextensions.k8s.io", "CustomResourceDefinition") | ("kustomize.config.k8s.io", _) => {
                return Ok(());
            }
            ("", "ConfigMap") => return self.texts(&fields, "data"),
            ("", "Secret") => return self.texts(&fields, "stringData"),
            ("operator.tigera.io", "Installation") => {
                let why = "the Tigera operator adds images of its own: list those of `operator --print-images=list`";
                let spot = self.spot(head.place);
                self.found.unclear(spot, why)?;
            }
            _ => {}
        }
        for &(key, value) in &fields.list {
            if !matches!(key, "apiVersion" | "kind" | "metadata" | "status") {
                self.descend(Step::Key(key), value, Part::Other)?;
            }
        }
        Ok(())
    }

    /// A document inside another that says of no object what it is.
    pub(super) fn fragment(&mut self, id: Id) -> Result<(), Failure> {
        self.builtin = false;
        self.value(id, Part::Other)
    }

    /// ConfigMaps and Secrets: keys that are variables, values that are manifests.
    fn texts(&mut self, fields: &Fields<'d>, key: &'d str) -> Result<(), Failure> {
        let Some(data) = fields.get(key) else { return Ok(()) };
        let Some(data) = self.document.fields(data, &mut self.found.budget)? else { return Ok(()) };
        for &(name, value) in &data.list {
            let Some(text) = self.document.text(value) else { continue };
            self.steps.extend([Step::Key(key), Step::Key(name)]);
            if is_image_variable(name) {
                let spot = self.spot_of(value);
                self.found.weak(spot, text, Origin::Environment)?;
            } else if self.shift.is_none() {
                embedded::search(self, value)?;
            }
            self.steps.truncate(self.steps.len() - 2);
        }
        Ok(())
    }

    fn descend(&mut self, step: Step<'d>, id: Id, part: Part) -> Result<(), Failure> {
        if self.steps.len() >= MAX_DEPTH {
            return Err(too_deep(self.place(id)));
        }
        self.steps.push(step);
        let outcome = self.value(id, part);
        self.steps.pop();
        outcome
    }

    fn value(&mut self, id: Id, part: Part) -> Result<(), Failure> {
        let document = self.document;
        self.found.budget.spend(1, document.place(id))?;
        match &document.node(id).value {
            Value::Scalar(..) => Ok(()),
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.descend(Step::At(index), *item, part)?;
                }
                Ok(())
            }
            Value::Mapping(_) => self.mapping(id, part),
        }
    }

    fn mapping(&mut self, id: Id, part: Part) -> Result<(), Failure> {
        let document = self.document;
        let Some(fields) = document.fields(id, &mut self.found.budget)? else { return Ok(()) };
        match part {
            Part::Container => self.container(id, &fields)?,
            Part::Volume => self.volume(&fields)?,
            Part::Other => {}
        }
        for &(key, value) in &fields.list {
            let listed = matches!(document.node(value).value, Value::Sequence(_));
            match key {
                // Labels and annotations only tell of things; `rbd.image` is a disk.
                "metadata" | "labels" | "annotations" | "matchLabels" | "nodeSelector" | "rbd" => {}
                "openAPIV3Schema" if !self.builtin => {}
                "containers" | "initContainers" | "ephemeralContainers" if listed => {
                    self.descend(Step::Key(key), value, Part::Container)?;
                }
                "volumes" if listed => self.descend(Step::Key(key), value, Part::Volume)?,
                "env" if listed => self.environment(value)?,
                "image" if part != Part::Other && !self.is_mapping(value) => {}
                _ if !self.builtin && part != Part::Volume && is_image_field(key) => {
                    self.steps.push(Step::Key(key));
                    self.custom(&fields, value)?;
                    self.steps.pop();
                    self.descend(Step::Key(key), value, Part::Other)?;
                }
                _ => self.descend(Step::Key(key), value, Part::Other)?,
            }
        }
        Ok(())
    }

    fn container(&mut self, id: Id, fields: &Fields<'d>) -> Result<(), Failure> {
        for key in ["command", "args"] {
            if let Some(list) = fields.get(key) {
                self.arguments(key, list)?;
            }
        }
        self.steps.push(Step::Key("image"));
        match fields.get("image").filter(|image| !self.document.is_null(*image)) {
            Some(image) if self.builtin || !self.is_mapping(image) => {
                self.pulled(image, fields.get("imagePullPolicy"), Origin::Container)?;
            }
            Some(_) => {}
            None if self.builtin => {
                let spot = self.spot_of(id);
                self.found.unclear(spot, "the container has no image")?;
            }
            None => {}
        }
        self.steps.pop();
        Ok(())
    }

    fn volume(&mut self, fields: &Fields<'d>) -> Result<(), Failure> {
        let Some(source) = fields.get("image") else { return Ok(()) };
        let Some(source) = self.document.fields(source, &mut self.found.budget)? else { return Ok(()) };
        let Some(reference) = source.get("reference").filter(|id| !self.document.is_null(*id)) else { return Ok(()) };
        self.steps.extend([Step::Key("image"), Step::Key("reference")]);
        self.pulled(reference, source.get("pullPolicy"), Origin::Volume)?;
        self.steps.truncate(self.steps.len() - 2);
        Ok(())
    }

    /// An image that kubelet pulls: whatever stands there is one, or the manifest is wrong.
    fn pulled(&mut self, image: Id, policy: Option<Id>, origin: Origin) -> Result<(), Failure> {
        let document = self.document;
        let spot = self.spot_of(image);
        let why = match document.text(image) {
            Some(text) => match reference::check(text) {
                Ok(()) => {
                    let policy = policy.and_then(|id| document.text(id)).map(shown);
                    return self.found.reference(spot, text.to_owned(), origin, policy);
                }
                Err(why) => format!("`{}` is no image reference: it {why}", shown(text)),
            },
            None => "the image is no text: was a template not rendered?".to_owned(),
        };
        if self.builtin && self.shift.is_none() {
            return Err(invalid(spot.place, format!("{}, {}: {why}", spot.object, spot.path)));
        }
        self.found.unclear(spot, why)
    }

    fn environment(&mut self, list: Id) -> Result<(), Failure> {
        let document = self.document;
        for (index, item) in document.items(list).iter().enumerate() {
            let Some(fields) = document.fields(*item, &mut self.found.budget)? else { continue };
            let Some(name) = fields.get("name").and_then(|name| document.text(name)) else { continue };
            if !is_image_variable(name) {
                continue;
            }
            self.steps.extend([Step::Key("env"), Step::At(index)]);
            if let Some(value) = fields.get("value") {
                self.steps.push(Step::Key("value"));
                let spot = self.spot_of(value);
                self.found.weak(spot, document.text(value).unwrap_or_default(), Origin::Environment)?;
                self.steps.pop();
            } else if let Some(from) = fields.get("valueFrom") {
                let spot = self.spot_of(from);
                self.found.unclear(spot, format!("{} has its value from elsewhere", shown(name)))?;
            }
            self.steps.truncate(self.steps.len() - 2);
        }
        Ok(())
    }

    fn arguments(&mut self, key: &'d str, list: Id) -> Result<(), Failure> {
        let document = self.document;
        let items = document.items(list);
        for (index, item) in items.iter().enumerate() {
            self.found.budget.spend(1, document.place(*item))?;
            let Some(flag) = document.text(*item).and_then(|text| text.strip_prefix('-')) else { continue };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (index, value) = match flag.split_once('=') {
                Some((name, value)) if is_image_flag(name) => (index, Some(value)),
                None if is_image_flag(flag) => {
                    let next = items.get(index + 1).and_then(|next| document.text(*next));
                    (index + 1, next.filter(|next| !next.starts_with('-')))
                }
                _ => continue,
            };
            if let Some(value) = value {
                self.steps.extend([Step::Key(key), Step::At(index)]);
                let spot = self.spot_of(items[index]);
                self.found.weak(spot, value, Origin::Argument)?;
                self.steps.truncate(self.steps.len() - 2);
            }
        }
        Ok(())
    }

    fn is_mapping(&self, id: Id) -> bool {
        matches!(self.document.node(id).value, Value::Mapping(_))
    }

    pub(super) fn place(&self, id: Id) -> Place {
        let place = self.document.place(id);
        self.shift.as_ref().map_or(place, |shift| shift.outer(place))
    }

    pub(super) fn spot_of(&self, id: Id) -> Spot {
        self.spot(self.place(id))
    }

    fn spot(&self, place: Place) -> Spot {
        let inner = path(&self.steps);
        let path = match &self.shift {
            Some(shift) if inner.is_empty() => shift.within.clone(),
            Some(shift) => format!("{}.{inner}", shift.within),
            None => inner,
        };
        Spot { place, object: self.object.clone(), path }
    }
}

/// `IMAGE`, `X_IMAGE`, `RELATED_IMAGE_X`.
fn is_image_variable(name: &str) -> bool {
    name == "IMAGE" || name.ends_with("_IMAGE") || name.starts_with("RELATED_IMAGE_")
}

/// `image`, `x-image`, `x_image`, `x.image`, `xImage`; and what the Prometheus operator calls its
/// reloader's image.
fn is_image_flag(name: &str) -> bool {
    let part = |before: &str| before.is_empty() || before.ends_with(['-', '_', '.']);
    name.strip_suffix("image").is_some_and(part) || is_image_field(name) || name == "prometheus-config-reloader"
}

/// `image`, `xImage`.
fn is_image_field(key: &str) -> bool {
    key == "image" || key.strip_suffix("Image").is_some_and(|before| !before.is_empty())
}
