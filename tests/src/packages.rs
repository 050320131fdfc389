//! A package server on loopback with one package, `greet`: npm's registry and pip's simple index, over plain HTTP.
//!
//! It is on `127.0.0.2`, which no sandbox takes for its own loopback (`127.0.0.1` is in `NO_PROXY`).
//!
//! Source of the formats: npm's "registry" and "package-lock.json" documentation; PEP 503 and PEP 427.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Json, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::paths;

/// What the package says of itself, in either language.
pub const GREETING: &str = "greetings from the registry";

const WHEEL: &str = "greet-1.0.0-py3-none-any.whl";
const TARBALL: &str = "greet-1.0.0.tgz";

/// Writes the wheel: a zip with a module and its metadata.
const MAKE_WHEEL: &str = "import sys, zipfile
info = 'greet-1.0.0.dist-info/'
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    z.writestr('greet.py', 'GREETING = ' + repr(sys.argv[2]) + '\\n')
    z.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: greet\\nVersion: 1.0.0\\n')
    z.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    z.writestr(info + 'RECORD', ''.join(n + ',,\\n' for n in ['greet.py', info + 'METADATA', info + 'WHEEL', info + 'RECORD']))
";

/// The server. It ends when this is dropped.
pub struct Packages {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    base: String,
    tarball: Vec<u8>,
    wheel: Vec<u8>,
    requests: Mutex<Vec<String>>,
}

impl Drop for Packages {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Packages {
    /// Makes the packages and starts serving them.
    ///
    /// # Panics
    /// When no port can be had or a tool is missing, with the package that has it.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tarball = tarball(folder.path());
        let wheel = folder.path().join(WHEEL);
        run(paths::tool("python3", "python3"), &["-c", MAKE_WHEEL, &wheel.display().to_string(), GREETING]);
        let wheel = std::fs::read(wheel).expect("the wheel");

        let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let base = format!("http://{address}");
        let shared = Arc::new(Shared { base, tarball, wheel, requests: Mutex::default() });
        let routes = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("serve packages") });
        Self { address, shared, server }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// npm's registry, with a slash at its end.
    pub fn npm(&self) -> String {
        format!("{}/npm/", self.shared.base)
    }

    /// pip's index.
    pub fn pip(&self) -> String {
        format!("{}/simple/", self.shared.base)
    }

    /// A lock file that asks for the package.
    pub fn lock(&self) -> Value {
        let package = json!({
            "version": "1.0.0",
            "resolved": format!("{}greet/-/{TARBALL}", self.npm()),
            "integrity": integrity(&self.shared.tarball),
        });
        json!({
            "name": "demo", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
            "packages": {
                "": {"name": "demo", "version": "1.0.0", "dependencies": {"greet": "1.0.0"}},
                "node_modules/greet": package,
            },
        })
    }

    /// Method and path of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let line = format!("{} {path}", request.method());
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    match path.as_str() {
        "/npm/greet" => {
            let tarball = format!("{}/npm/greet/-/{TARBALL}", shared.base);
            let dist = json!({"tarball": tarball, "integrity": integrity(&shared.tarball)});
            let version = json!({"name": "greet", "version": "1.0.0", "dist": dist});
            Json(json!({"name": "greet", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}))
                .into_response()
        }
        "/npm/greet/-/greet-1.0.0.tgz" => shared.tarball.clone().into_response(),
        "/simple/greet/" => Html(format!("<!DOCTYPE html><a href=\"/files/{WHEEL}\">{WHEEL}</a>")).into_response(),
        "/files/greet-1.0.0-py3-none-any.whl" => shared.wheel.clone().into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn tarball(folder: &Path) -> Vec<u8> {
    let package = folder.join("package");
    std::fs::create_dir(&package).expect("make a folder");
    let manifest = json!({"name": "greet", "version": "1.0.0", "main": "index.js"}).to_string();
    std::fs::write(package.join("package.json"), manifest).expect("write the manifest");
    std::fs::write(package.join("index.js"), format!("module.exports = {};\n", json!(GREETING)))
        .expect("write the module");
    let file = folder.join(TARBALL);
    let (at, into) = (folder.display().to_string(), file.display().to_string());
    run(paths::tool("tar", "tar"), &["-C", &at, "-czf", &into, "package"]);
    std::fs::read(file).expect("the tarball")
}

/// Subresource integrity, by the tool that every machine has.
fn integrity(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("write it");
    let sum = run(paths::tool("sha512sum", "coreutils"), &[&file.path().display().to_string()]);
    let digits = sum.get(..128).expect("a sum");
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    let sum: Vec<u8> = (0..128).step_by(2).map(byte).collect();
    format!("sha512-{}", BASE64_STANDARD.encode(sum))
}

fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let output = paths::command(&program).args(arguments).output().expect("run a tool");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", program.as_ref().display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
