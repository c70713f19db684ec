//! The texts in which data sources tell a machine about itself: CloudStack's key by key, OpenStack's and cloud-init's
//! as JSON, NoCloud's as lines.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::user_data::Metadata;

/// A key is a file's name on the virtual router; the user may add some.
const MAX_KEYS: usize = 128;
const MAX_NAME: usize = 128;
/// What cloud-init calls a machine that nobody told anything.
const NOBODY: &str = "iid-datasource-none";

/// The names in a listing of `/latest/meta-data/`: one in a line. What could not be a file's name there is left out.
#[must_use]
pub fn keys(listing: &str) -> Vec<String> {
    let name = |name: &&str| {
        let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        plain && !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.')
    };
    let mut keys: Vec<String> = Vec::new();
    for key in listing.lines().map(str::trim).filter(name).take(MAX_KEYS) {
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
    }
    keys
}

/// The instance id in `text`; none in a login page, or where cloud-init itself was told nothing.
#[must_use]
pub fn instance_id(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.:".contains(&c));
    (plain && !text.is_empty() && text.len() <= MAX_NAME && text != NOBODY).then(|| text.to_owned())
}

/// Metadata of CloudStack's keys, with `-` or `_` in them.
#[must_use]
pub fn from_keys(keys: impl IntoIterator<Item = (String, String)>) -> Metadata {
    let mut metadata = Metadata::default();
    for (key, value) in keys {
        let value = value.trim_end().to_owned();
        let told = Some(value.trim()).filter(|value| !value.is_empty());
        match key.replace('_', "-").as_str() {
            "instance-id" => metadata.instance_id = told.and_then(instance_id),
            "local-hostname" => metadata.local_hostname = told.map(str::to_owned),
            "local-ipv4" => metadata.local_ipv4 = told.and_then(|value| value.parse().ok()),
            "availability-zone" => metadata.availability_zone = told.map(str::to_owned),
            _ => drop(metadata.more.insert(key, value)),
        }
    }
    metadata
}

/// Metadata of `openstack/latest/meta_data.json` on a ConfigDrive; none where it is no such document.
#[must_use]
pub fn openstack(text: &str) -> Option<Metadata> {
    let document: Value = serde_json::from_str(text).ok()?;
    let mut metadata = from_keys(scalars(&document)?);
    let told = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
    metadata.instance_id = metadata.instance_id.or_else(|| told("uuid").as_deref().and_then(instance_id));
    metadata.local_hostname = metadata.local_hostname.or_else(|| told("hostname")).or_else(|| told("name"));
    Some(metadata)
}

/// Metadata of cloud-init's `instance-data.json`: what its data source said, completed by what it made of it.
#[must_use]
pub fn instance_data(text: &str) -> Option<Metadata> {
    let document: Value = serde_json::from_str(text).ok()?;
    let said = document.pointer("/ds/meta_data").and_then(scalars).unwrap_or_default();
    let mut metadata = from_keys(said);
    let made = |key: &str| {
        let value = document.get("v1").and_then(|v1| v1.get(key)).and_then(Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    metadata.instance_id = metadata.instance_id.or_else(|| made("instance_id").as_deref().and_then(instance_id));
    metadata.local_hostname = metadata.local_hostname.or_else(|| made("local_hostname"));
    metadata.availability_zone = metadata.availability_zone.or_else(|| made("availability_zone"));
    Some(metadata)
}

/// Whether cloud-init's `instance-data.json` is of a ConfigDrive. As long as the BIOS's UUID stays, cloud-init does not
/// read that one again, whatever it says since.
#[must_use]
pub fn is_config_drive(instance_data: &str) -> bool {
    let document: Option<Value> = serde_json::from_str(instance_data).ok();
    ["/v1/platform", "/v1/cloud_name"].iter().any(|key| {
        let value = document.as_ref().and_then(|document| document.pointer(key)).and_then(Value::as_str);
        value.is_some_and(|value| value.eq_ignore_ascii_case("configdrive"))
    })
}

/// Metadata of NoCloud's `meta-data`: lines of `key: value`, or JSON. What is nested is left out.
#[must_use]
pub fn nocloud(text: &str) -> Metadata {
    if text.trim_start().starts_with('{') {
        return openstack(text).unwrap_or_default();
    }
    let pair = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let nested = key.starts_with([' ', '\t', '-', '#']);
        let value = value.trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|value: &str| value.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        (!nested && !key.is_empty() && !value.is_empty()).then(|| (key.trim().to_owned(), value.to_owned()))
    };
    from_keys(text.lines().filter_map(pair))
}

/// The texts, numbers and truths of an object; none where it is no object.
fn scalars(document: &Value) -> Option<BTreeMap<String, String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let pairs = document.as_object()?.iter().take(MAX_KEYS);
    Some(pairs.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2f0e5c1e-5b0f-4a76-9a1f-6f8a3a1b2c3d";

    #[test]
    fn a_listing_names_keys_and_nothing_else() {
        let listing = "service-offering\r\ninstance-id\n\n../user-data\na b\n<html>\ninstance-id\nAS_NUMBER\n.htaccess";
        assert_eq!(keys(listing), ["service-offering", "instance-id", "AS_NUMBER"]);
        let many: String = (0..1000).map(|number| format!("key{number}\n")).collect();
        assert_eq!(keys(&many).len(), MAX_KEYS);
    }

    #[test]
    fn an_instance_id_is_one_word() {
        for (text, is_one) in [
            (ID, true),
            ("i-42-17-VM\n", true),
            ("", false),
            ("<html>Log in</html>", false),
            ("two words", false),
            ("iid-datasource-none", false),
            (&"a".repeat(200), false),
        ] {
            assert_eq!(instance_id(text).is_some(), is_one, "{text}");
        }
    }

    #[test]
    fn each_source_s_text_is_understood() {
        let nocloud_text = format!("instance-id: \"{ID}\"\nlocal-hostname: c1-control-1\nnetwork:\n  a: b\n# x: y\n");
        let openstack_text = format!(
            r#"{{"uuid": "{ID}", "hostname": "c1-control-1", "availability_zone": "Zone 1", "keys": [], "AS_NUMBER": 65001}}"#
        );
        let cloud_init = format!(
            r#"{{"ds": {{"meta_data": {{"instance-id": "{ID}", "local-hostname": "c1-control-1", "availability-zone":
            "Zone 1", "local-ipv4": "10.1.1.12", "AS_NUMBER": "65001", "public-keys": "ssh-rsa x"}}}},
            "v1": {{"instance_id": "other", "cloud_name": "cloudstack"}}}}"#
        );
        let no_source = r#"{"ds": {"meta_data": {}}, "v1": {"instance_id": "iid-datasource-none"}}"#;
        for (metadata, zone) in [
            (nocloud(&nocloud_text), None),
            (openstack(&openstack_text).unwrap(), Some("Zone 1")),
            (nocloud(&openstack_text), Some("Zone 1")),
            (instance_data(&cloud_init).unwrap(), Some("Zone 1")),
        ] {
            assert_eq!(metadata.instance_id.as_deref(), Some(ID));
            assert_eq!(metadata.local_hostname.as_deref(), Some("c1-control-1"));
            assert_eq!(metadata.availability_zone.as_deref(), zone);
            let number = metadata.more.get("AS_NUMBER").map(String::as_str);
            assert_eq!(number, zone.map(|_| "65001"));
        }
        assert_eq!(instance_data(&cloud_init).unwrap().local_ipv4, Some([10, 1, 1, 12].into()));
        assert_eq!(instance_data(no_source).unwrap().instance_id, None);
        for text in ["", "[]", "{", "\u{0}"] {
            assert_eq!(
                (openstack(text), instance_data(text).unwrap_or_default()),
                (None, Metadata::default()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_config_drive_said_is_known_as_that() {
        for (text, is_one) in [
            (r#"{"v1": {"platform": "configdrive", "subplatform": "config-disk (/dev/sr1)"}}"#, true),
            (r#"{"v1": {"cloud_name": "ConfigDrive"}}"#, true),
            (r#"{"v1": {"platform": "cloudstack", "cloud_name": "cloudstack"}}"#, false),
            (r#"{"v1": {"platform": "nocloud", "subplatform": "config-disk (/dev/vdb)"}}"#, false),
            (r#"{"v1": {}}"#, false),
            ("", false),
        ] {
            assert_eq!(is_config_drive(text), is_one, "{text}");
        }
    }

    #[test]
    fn both_spellings_of_a_key_are_one() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let metadata = from_keys([pair("instance_id", ID), pair("local-ipv4", "10.1.1.12\n"), pair("vm-id", ID)]);
        assert_eq!((metadata.instance_id.as_deref(), metadata.local_ipv4), (Some(ID), Some([10, 1, 1, 12].into())));
        assert_eq!(metadata.more["vm-id"], ID);
    }
}
