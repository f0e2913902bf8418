//! What a server says at start about certificates and keys, and when it does not start.

use std::fs;

use super::Setting;
use super::support::http::Request;
use super::support::wait_for;

/// The message of a server that must not start, with the directory as `DIR`.
#[track_caller]
fn refusal(setting: &Setting) -> String {
    let (status, log) = setting.options.refused();
    assert_eq!(status.code(), Some(2), "{log}");
    log.replace(&setting.path().display().to_string(), "DIR")
}

#[test]
fn wrong_files_are_named_with_the_remedy() {
    let setting = Setting::new("", "");
    let (cert, key) = (setting.path().join("server.crt"), setting.path().join("server.key"));
    let (cert_pem, key_pem) = (fs::read(&cert).expect("readable"), fs::read(&key).expect("readable"));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let other_key = setting.authority.sign(|_| {}).key_pem;
    let cases: [(&[u8], &[u8], &str); 8] = [
        (&key_pem, &key_pem, "DIR/server.crt: holds no certificate; a private key belongs in tls.key"),
        (b"", &key_pem, "DIR/server.crt: holds no certificate; certificates are in PEM"),
        (&cert_pem, &cert_pem, "DIR/server.key: holds no private key; a certificate belongs in tls.cert"),
        (&cert_pem, b"", "DIR/server.key: holds no private key; keys are in PEM"),
        (
            &cert_pem,
            encrypted.as_bytes(),
            "DIR/server.key: the private key is encrypted with a password; write it without one",
        ),
        (&cert_pem, other_key.as_bytes(), "DIR/server.key: is not the key of the first certificate in DIR/server.crt"),
        (damaged.as_bytes(), &key_pem, "DIR/server.crt: can't be used: "),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", &key_pem, "DIR/server.crt: is damaged: "),
    ];
    for (cert_bytes, key_bytes, message) in cases {
        fs::write(&cert, cert_bytes).expect("written");
        fs::write(&key, key_bytes).expect("written");
        let said = refusal(&setting);
        assert!(said.contains(message), "{message}\n{said}");
    }
    fs::remove_file(&cert).expect("removed");
    assert!(refusal(&setting).contains("DIR/server.crt: cannot be read: No such file or directory"));
}

#[test]
fn a_certificate_that_has_expired_is_warned_about_and_served() {
    let setting = Setting::new("", "");
    let expired = setting.authority.sign(|parameters| {
        parameters.not_before = rcgen::date_time_ymd(2019, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2020, 2, 29);
    });
    expired.write(setting.path(), "server");
    let server = setting.options.spawn();
    let warning = "the certificate expired on Sat, 29 Feb 2020 00:00:00 GMT";
    wait_for(warning, || server.process.log.text().contains(warning).then_some(()));
    assert!(server.try_connect().is_err(), "a client that checks dates refuses it");
    server.stop();
}

#[test]
fn a_key_that_others_may_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let setting = Setting::new("", "");
    let key = setting.path().join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    let log = setting.start().stop();
    assert!(log.contains("server.key can be read by others (mode 0644)"), "{log}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changed");
    let log = setting.start().stop();
    assert!(!log.contains("server.key can be read"), "{log}");
}

#[test]
fn it_is_said_at_start_who_encrypts() {
    let setting = Setting::new("  kernel: off", "");
    let server = setting.start();
    server.connect().exchange(&Request::get("/healthz")).expect(200);
    let log = server.stop();
    assert!(log.contains("TLS: this process encrypts, as configured"), "{log}");
    let setting = Setting::new("", "");
    let log = setting.start().stop();
    let kernel = log.contains("TLS: the kernel encrypts");
    let process = log.contains("TLS: this process encrypts, since the kernel does not");
    assert!(kernel != process, "{log}");
}
