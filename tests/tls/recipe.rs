//! The recipe of docs/security.md, as it stands there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::support::server::directory;
use super::support::wait_for;

/// The blocks of code below the words that introduce the recipe.
fn blocks() -> [String; 2] {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let (_, recipe) = page.split_once("To try it with a self-signed certificate:").expect("the recipe is there");
    let mut blocks = recipe.split("```").skip(1).step_by(2).map(|block| block.trim().to_owned());
    [blocks.next().expect("how to make and to start"), blocks.next().expect("how to use it")]
}

/// Ends the server when a test ends, however it does.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its shell became the server, so the signal reaches the right process.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn the_recipe_for_a_self_signed_certificate_works_word_for_word() {
    for tool in ["openssl", "curl"] {
        if Command::new(tool).arg("version").output().is_err() {
            println!("SKIPPED: {tool} is missing");
            return;
        }
    }
    let directory = directory();
    let [make_and_start, using] = blocks();
    // Only the port is another: that of the page may be taken.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let shell = |script: &str| {
        let programs = Path::new(env!("CARGO_BIN_EXE_nabu-store")).parent().expect("a folder").display().to_string();
        let path = std::env::var("PATH").expect("there is one");
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NABU_")) {
            command.env_remove(name);
        }
        command.env("PATH", format!("{programs}:{path}")).env("NABU_LISTEN", format!("127.0.0.1:{port}"));
        command.env("NABU_CORES", "1").env("NABU_MEMORY", "64MiB").env("NO_PROXY", "*");
        command.current_dir(directory.path()).args(["-e", "-c"]).arg(script.replace("7070", &port.to_string()));
        command
    };
    let (make, start) = make_and_start.split_once("\nnabu-store start").expect("the last line starts the server");
    let run = |script: &str| -> Output { shell(script).output().expect("bash is there") };
    let made = run(make);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let log = fs::File::create(directory.path().join("log")).expect("made");
    let server = shell(&format!("exec nabu-store start{start}")).stderr(log).spawn().expect("bash is there");
    let _server = Running(server);
    wait_for("the server of the recipe", || {
        let log = fs::read_to_string(directory.path().join("log")).expect("readable");
        log.contains("ready to serve blobs").then_some(())
    });
    let used = run(&using);
    let (out, err) = (String::from_utf8_lossy(&used.stdout), String::from_utf8_lossy(&used.stderr));
    assert!(used.status.success(), "{out}\n{err}");
    assert!(out.contains("{\"ready\":true}"), "{out}");
}

#[test]
fn a_ca_as_the_certificate_of_a_server_is_told_with_the_remedy() {
    let setting = super::Setting::new("", "");
    // What `openssl req -x509` makes by itself.
    let authority = setting.authority.sign(|parameters| {
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    authority.write(setting.path(), "server");
    let server = setting.options.spawn();
    let port = server.address.port();
    let output = Command::new(env!("CARGO_BIN_EXE_nabu-store"))
        .args(["ls", "--api", &format!("https://localhost:{port}"), "--token", "a-token-for-this-test", "--cacert"])
        .arg(setting.path().join("ca.crt"))
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(7));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("CA:FALSE"), "{told}");
    server.stop();
}
