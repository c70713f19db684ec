use minisign::{KeyPair, SecretKey};

use super::*;

fn pair() -> (PublicKey, SecretKey) {
    let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().unwrap();
    (PublicKey::parse(&pk.to_base64()).unwrap(), sk)
}

fn sign(keys: &[&SecretKey], content: &[u8]) -> String {
    keys.iter().map(|key| minisign::sign(None, key, content, None, None).unwrap().into_string()).collect()
}

fn rules(keys: &[&PublicKey], signatures: usize, signature_required: bool) -> Rules {
    let keys = keys.iter().map(|&key| key.clone()).collect();
    Rules { keys, directory: "/k".to_owned(), signatures, signature_required, ..Rules::default() }
}

#[test]
fn signatures_are_counted_by_key() {
    let ((a, sa), (b, sb), (_, stranger)) = (pair(), pair(), pair());
    let content = b"manifest".as_slice();
    let both = &[&a, &b][..];
    let missing = Some(Code::SignatureMissing);
    let invalid = Some(Code::SignatureInvalid);
    let mut damaged = sign(&[&sa], b"other");
    damaged += &sign(&[&sb], content);
    for (what, rules, signature, outcome) in [
        ("no keys", rules(&[], 1, false), Some(sign(&[&sa], content)), None),
        ("signed", rules(both, 1, true), Some(sign(&[&sa], content)), None),
        ("not signed", rules(both, 1, true), None, missing),
        ("not signed, allowed", rules(both, 1, false), None, None),
        ("empty", rules(both, 1, false), Some(String::new()), invalid),
        ("a stranger", rules(both, 1, true), Some(sign(&[&stranger], content)), invalid),
        ("a stranger, where none is needed", rules(both, 1, false), Some(sign(&[&stranger], content)), invalid),
        ("a stranger beside", rules(both, 1, true), Some(sign(&[&stranger, &sb], content)), None),
        ("other content", rules(both, 1, true), Some(sign(&[&sa], b"other")), invalid),
        ("one damaged beside a good one", rules(both, 1, true), Some(damaged), invalid),
        ("one of two", rules(both, 2, true), Some(sign(&[&sa], content)), missing),
        ("the same twice", rules(both, 2, true), Some(sign(&[&sa, &sa], content)), missing),
        ("one and a stranger", rules(both, 2, true), Some(sign(&[&sa, &stranger], content)), missing),
        ("two of two", rules(both, 2, true), Some(sign(&[&sb, &sa], content)), None),
    ] {
        let told = rules.signers(content, signature.as_ref().map(String::as_bytes));
        assert_eq!(told.as_ref().err().map(|failure| failure.code), outcome, "{what}: {told:?}");
        if let Err(failure) = told {
            assert!(failure.remedy().contains("/k"), "{what}: {}", failure.remedy());
        }
    }
}

#[test]
fn who_signed_and_who_should_have_is_told() {
    let ((a, sa), (b, _), (stranger, ss)) = (pair(), pair(), pair());
    let rules = rules(&[&a, &b], 2, true);
    let what = |keys: &[&SecretKey]| rules.signers(b"x", Some(sign(keys, b"x").as_bytes())).unwrap_err().what;
    let one = what(&[&sa]);
    assert!(one.starts_with("1 of 2 ") && one.contains(&a.id()) && one.contains(&b.id()), "{one}");
    let none = what(&[&ss]);
    assert!([&a, &b, &stranger].iter().all(|key| none.contains(&key.id())), "{none}");
}

#[test]
fn a_policy_that_nothing_meets_is_refused_at_once() {
    let ((a, _), (b, _)) = (pair(), pair());
    for (keys, signatures, required, refused) in [
        (&[][..], 1, true, true),
        (&[][..], 1, false, false),
        (&[&a], 1, true, false),
        (&[&a], 2, true, true),
        (&[&a, &a], 2, true, true),
        (&[&a, &b], 2, true, false),
    ] {
        assert_eq!(rules(keys, signatures, required).check().is_err(), refused, "{keys:?} {signatures} {required}");
    }
}

#[test]
fn old_bundles_are_refused() {
    let version = |text: &str| Version::parse(text);
    let old = Some(Code::VersionTooOld);
    for (minimum, installed, bundle, outcome) in [
        (None, None, None, None),
        (None, None, Some("v1.9.0"), None),
        (Some("v1.33.0"), None, Some("v1.9.0"), old),
        (Some("v1.33.0"), None, Some("v1.33.0-rc.1"), old),
        (Some("v1.33"), None, Some("v1.33.0"), None),
        (Some("v1.33.0"), None, None, old),
        (Some("v1.33.0"), None, Some("newest"), old),
        (None, Some("v1.34.0"), Some("v1.33.9"), old),
        (None, Some("v1.34.0"), Some("v1.34.0"), None),
        (None, Some("v1.34.0"), Some("v1.35.0-alpha.1"), None),
        (None, Some("v1.34.0"), None, None),
    ] {
        let rules =
            Rules { minimum: minimum.and_then(version), installed: installed.and_then(version), ..Rules::default() };
        let told = rules.check_version(bundle);
        assert_eq!(told.as_ref().err().map(|failure| failure.code), outcome, "{minimum:?} {installed:?} {bundle:?}");
        if let (Err(failure), Some(bundle)) = (told, bundle) {
            let named = minimum.or(installed).unwrap();
            assert!(failure.what.contains(bundle) && failure.what.contains(named), "{}", failure.what);
        }
    }
}

#[test]
fn stock_isos_follow_the_policy() {
    for (signature_required, manifest_required, outcome) in
        [(true, true, Some(Code::SignatureMissing)), (false, true, Some(Code::ManifestRequired)), (false, false, None)]
    {
        let rules = Rules { signature_required, manifest_required, ..Rules::default() };
        assert_eq!(rules.check_legacy().err().map(|failure| failure.code), outcome);
    }
}
