//! Links the library OS at its place in guest-virtual memory (`link.ld`).
fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bins=-T{here}/link.ld");
        println!("cargo:rustc-link-arg-bins=--no-pie");
        // A snapshot names the library OS that it needs.
        println!("cargo:rustc-link-arg-bins=--build-id=sha1");
        println!("cargo:rustc-link-arg-bins=-z");
        println!("cargo:rustc-link-arg-bins=max-page-size=4096");
    }
}
