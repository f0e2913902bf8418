//! Which tokens are believed, which keys are taken, and the words for the others.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use simd_json::json;

use super::*;

/// 32 bytes, and their base64 for a JWKS.
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const SECRET_BASE64: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set").as_secs() as i64
}

fn options() -> JwtOptions {
    JwtOptions {
        keys: "KEYS".into(),
        algorithms: JwtAlgorithm::ALL.to_vec(),
        issuers: Vec::new(),
        audiences: Vec::new(),
        role_claim: "role".to_owned(),
        leeway_seconds: 60,
    }
}

fn jwts(text: &str, options: &JwtOptions) -> Jwts {
    let keys = parse_keys(text, Path::new("KEYS")).expect("valid keys");
    Jwts::new(keys, options).expect("keys for the algorithms")
}

fn secret_set(id: &str) -> String {
    format!(r#"{{"keys": [{{"kty": "oct", "kid": "{id}", "k": "{SECRET_BASE64}"}}]}}"#)
}

/// A token signed with the secret.
fn signed(claims: &OwnedValue) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET)).expect("it can be signed")
}

/// What is said of a token that is not believed.
fn distrust(jwts: &Jwts, token: &str) -> String {
    jwts.verify(token.as_bytes()).expect_err("not believed").reason
}

#[test]
fn each_kind_of_key_verifies_its_algorithm() {
    let claims = json!({"exp": now() + 600, "sub": "fleet", "iss": "idp", "role": "write"});
    let expected = |expires_at| Verified {
        role: Some(Role::Write),
        subject: Some("fleet".to_owned()),
        issuer: Some("idp".to_owned()),
        expires_at,
    };
    let expires_at = claims.get_u64("exp").expect("set above") + 60;
    assert_eq!(jwts(&secret_set("a"), &options()).verify(signed(&claims).as_bytes()), Ok(expected(expires_at)));

    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let ed = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let both = format!("# the keys\n{}\n{}{}", ec.public_key_pem(), rsa.public_key_pem(), ed.public_key_pem());
    let jwts = jwts(&both, &options());
    assert_eq!(jwts.key_count(), 3);
    for (algorithm, key) in [
        (Algorithm::ES256, EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes())),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes())),
        (Algorithm::RS256, EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes())),
    ] {
        let token = encode(&Header::new(algorithm), &claims, &key.expect("a key")).expect("signed");
        assert_eq!(jwts.verify(token.as_bytes()), Ok(expected(expires_at)), "{algorithm:?}");
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret_and_none_is_no_algorithm() {
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let pem = ec.public_key_pem();
    let jwts = jwts(&pem, &options());
    let claims = json!({"exp": now() + 600, "role": "admin"});
    let forged =
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(pem.as_bytes())).expect("signed");
    assert_eq!(distrust(&jwts, &forged), "it is signed with a key that this server does not have");
    // {"alg":"none","typ":"JWT"} and the claims, without and with something for a signature.
    let payload = forged.split('.').nth(1).expect("three parts");
    for forged in [
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."),
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.AAAA"),
    ] {
        assert_eq!(distrust(&jwts, &forged), "its header is malformed, or names an unknown algorithm");
    }
}

#[test]
fn every_claim_is_honoured_and_named() {
    let options = JwtOptions {
        issuers: vec!["https://idp".to_owned()],
        audiences: vec!["nabu".to_owned(), "all".to_owned()],
        ..options()
    };
    let jwts = jwts(&secret_set("a"), &options);
    let with = |change: OwnedValue| {
        let mut claims = json!({"exp": now() + 600, "iss": "https://idp", "aud": "nabu", "role": "read"});
        for (name, value) in change.as_object().expect("a map") {
            if value.is_null() {
                claims.remove(name.as_str()).expect("a map");
            } else {
                claims.insert(name.clone(), value.clone()).expect("a map");
            }
        }
        signed(&claims)
    };
    assert!(jwts.verify(with(json!({})).as_bytes()).is_ok());
    assert!(jwts.verify(with(json!({"aud": ["other", "all"]})).as_bytes()).is_ok());
    assert!(jwts.verify(with(json!({"exp": now() - 30, "nbf": now() + 30})).as_bytes()).is_ok(), "within the leeway");
    for (change, said) in [
        (json!({"exp": now() - 120}), "it has expired (claim `exp`)"),
        (json!({"exp": null}), "it has no claim `exp`, or a malformed one"),
        (json!({"exp": "soon"}), "it has no claim `exp`, or a malformed one"),
        (json!({"nbf": now() + 120}), "it is not valid yet (claim `nbf`)"),
        (json!({"nbf": "soon"}), "its claim `nbf` is malformed"),
        (json!({"aud": "another"}), "it is for another audience (claim `aud`)"),
        (json!({"aud": null}), "it has no claim `aud`, or a malformed one"),
        (json!({"iss": "https://other"}), "it comes from another issuer (claim `iss`)"),
        (json!({"iss": null}), "it has no claim `iss`, or a malformed one"),
    ] {
        let distrust = jwts.verify(with(change.clone()).as_bytes()).expect_err("not believed");
        assert_eq!(distrust, Distrust { reason: said.to_owned(), is_signed: true }, "{change}");
    }
    let forged = format!("{}x", with(json!({})));
    assert!(!jwts.verify(forged.as_bytes()).expect_err("not believed").is_signed);
}

#[test]
fn a_token_for_somebody_is_not_for_a_server_without_a_name() {
    let jwts = jwts(&secret_set("a"), &options());
    let token = signed(&json!({"exp": now() + 600, "aud": "another"}));
    assert_eq!(distrust(&jwts, &token), "it is for another audience (claim `aud`)");
}

#[test]
fn the_role_comes_from_the_configured_claim() {
    let options = JwtOptions { role_claim: "https://nabu/roles".to_owned(), ..options() };
    let jwts = jwts(&secret_set("a"), &options);
    for (value, role) in [
        (json!("admin"), Some(Role::Admin)),
        (json!(["viewer", "read", "write"]), Some(Role::Write)),
        (json!("Admin"), None),
        (json!(3), None),
        (json!({"read": true}), None),
        (json!([1, "read"]), None),
    ] {
        let token = signed(&json!({"exp": now() + 600, "role": "admin", "https://nabu/roles": value.clone()}));
        assert_eq!(jwts.verify(token.as_bytes()).expect("believed").role, role, "{value}");
    }
}

#[test]
fn a_token_is_verified_with_the_key_that_it_names() {
    let other = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA";
    let set = format!(
        r#"{{"keys": [{{"kty": "oct", "kid": "old", "k": "{other}"}}, {{"kty": "oct", "kid": "new", "k": "{SECRET_BASE64}"}}]}}"#
    );
    let jwts = jwts(&set, &options());
    let token = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        encode(&header, &json!({"exp": now() + 600}), &EncodingKey::from_secret(SECRET)).expect("signed")
    };
    assert!(jwts.verify(token(Some("new")).as_bytes()).is_ok());
    assert!(jwts.verify(token(None).as_bytes()).is_ok(), "one that names none is tried with all");
    assert_eq!(distrust(&jwts, &token(Some("old"))), "its signature is wrong");
    assert_eq!(distrust(&jwts, &token(Some("lost"))), "it is signed with a key that this server does not have");
}

#[test]
fn what_is_no_jwt_is_refused_whatever_it_is() {
    let jwts = jwts(&secret_set("a"), &options());
    let good = signed(&json!({"exp": now() + 600}));
    for token in [
        "..",
        "a.b.c",
        "eyJhbGciOiJIUzI1NiJ9..",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
        &good[..good.len() - 2],
        &format!("{good}AA"),
    ] {
        assert!(jwts.verify(token.as_bytes()).is_err(), "{token}");
    }
    let mut seen = 0;
    for index in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        // The last character of a part may have bits that mean nothing, and then nothing was
        // changed.
        seen += usize::from(jwts.verify(&changed).is_err());
    }
    assert!(seen + 3 >= good.len(), "{seen} of {} changes are found", good.len());
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
    let token = encode(&critical, &json!({"exp": now() + 600}), &EncodingKey::from_secret(SECRET)).expect("signed");
    assert_eq!(distrust(&jwts, &token), "its header has critical extensions, and this server knows none");
}

#[test]
fn an_algorithm_that_is_not_wanted_is_not_taken() {
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let only = JwtOptions { algorithms: vec![JwtAlgorithm::Es256], ..options() };
    let jwts = jwts(&ec.public_key_pem(), &only);
    let token = signed(&json!({"exp": now() + 600}));
    assert_eq!(distrust(&jwts, &token), "this server does not accept its algorithm");
}

#[test]
fn wrong_key_files_are_named_with_the_remedy() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let wide = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    let message = |text: &str| {
        parse_keys(text, Path::new("KEYS")).and_then(|keys| Jwts::new(keys, &options()).map(drop)).expect_err(text)
    };
    assert_eq!(message(""), "holds no keys: it must be public keys in PEM, or a JWKS, {\"keys\": […]}");
    assert_eq!(
        message(&key.serialize_pem()),
        "block 1 is a private key: the server needs the public one alone (`openssl pkey -in KEY -pubout`)"
    );
    assert_eq!(
        message("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        "block 1 is not a public key: it must begin with -----BEGIN PUBLIC KEY-----"
    );
    assert_eq!(message(&wide.public_key_pem()), "block 1 is a key on a curve other than P-256");
    assert_eq!(
        message(&format!("{}-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", key.public_key_pem())),
        "block 2 is damaged, or not an RSA, P-256 or Ed25519 key"
    );
    assert!(message("{\"keys\": ").starts_with("is not JSON: "));
    assert_eq!(message("{\"key\": []}"), "is not a JWKS: it has no `keys` list");
    assert_eq!(
        message("{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2hvcnQ\"}]}"),
        "key 1: the secret is too short: at least 32 bytes are needed"
    );
    assert!(message("{\"keys\": []}").starts_with("holds no key for HS256, RS256, ES256, EdDSA: "));
    // Keys for others are passed over.
    assert!(
        message(
            r#"{"keys": [{"kty": "AKP", "alg": "ML-DSA-44"}, {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}]}"#
        )
        .starts_with("holds no key")
    );
}
