//! Build options: what a guest may ask of a compiler. Everything that names a file, or that nobody knows, is refused.

/// Options of the specification that take no value (OpenCL 3.0, 5.8.6), and which step of a two-step build knows them.
const FLAGS: &[(&str, Step)] = &[
    ("-cl-single-precision-constant", Step::Compile),
    ("-cl-denorms-are-zero", Step::Both),
    ("-cl-fp32-correctly-rounded-divide-sqrt", Step::Compile),
    ("-cl-opt-disable", Step::Compile),
    ("-cl-strict-aliasing", Step::Compile),
    ("-cl-mad-enable", Step::Compile),
    ("-cl-no-signed-zeros", Step::Both),
    ("-cl-unsafe-math-optimizations", Step::Both),
    ("-cl-finite-math-only", Step::Both),
    ("-cl-fast-relaxed-math", Step::Both),
    ("-cl-uniform-work-group-size", Step::Compile),
    ("-cl-no-subgroup-ifp", Step::Both),
    ("-cl-kernel-arg-info", Step::Compile),
    ("-w", Step::Compile),
    ("-Werror", Step::Compile),
    ("-g", Step::Compile),
    // NVIDIA's, of cl_nv_compiler_options.
    ("-cl-nv-verbose", Step::Compile),
];

/// Options with a value after `=`.
const VALUES: &[&str] = &["-cl-std=", "-cl-nv-maxrregcount=", "-cl-nv-opt-level="];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Compile,
    Both,
}

/// Accepted options.
#[derive(Debug, Default)]
pub struct Options {
    compile: Vec<String>,
    link: Vec<String>,
}

impl Options {
    /// For a build in one step.
    pub fn all(&self) -> String {
        self.compile.join(" ")
    }

    pub fn compiling(&self) -> String {
        self.compile.join(" ")
    }

    pub fn linking(&self) -> String {
        self.link.join(" ")
    }
}

/// Checks the options of linking; the error is the one that is refused.
pub fn check_link(text: &str) -> Result<String, String> {
    let known = |piece: &str| {
        ["-create-library", "-enable-link-options"].contains(&piece)
            || FLAGS.iter().any(|(flag, step)| *flag == piece && *step == Step::Both)
    };
    match text.split_whitespace().find(|piece| !known(piece)) {
        Some(piece) => Err(piece.to_owned()),
        None => Ok(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

/// Checks a whole option string; the error is the option that is refused.
///
/// Compilers cut the string differently where quotes occur. So that none of them finds an option that was not checked, each
/// piece between blanks that begins with a dash must be one of the list, quoted or not.
pub fn check(text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    for piece in text.split_whitespace() {
        let bare = piece.trim_start_matches(['"', '\'']);
        if bare.starts_with('-') && bare != piece {
            return Err(piece.to_owned());
        }
    }
    let mut pieces = split_quoted(text).into_iter();
    while let Some(piece) = pieces.next() {
        let mut words = piece.split_whitespace();
        let first = words.next().unwrap_or_default();
        if words.any(|word| word.starts_with('-')) {
            return Err(piece);
        }
        if first == "-D" {
            let definition = pieces.next().ok_or("-D")?;
            if definition.split_whitespace().any(|word| word.starts_with('-')) {
                return Err(definition);
            }
            options.compile.push(format!("-D {definition}"));
        } else if first.starts_with("-D") || VALUES.iter().any(|value| first.starts_with(value) && !has_path(first)) {
            options.compile.push(piece);
        } else if let Some((_, step)) = FLAGS.iter().find(|(flag, _)| *flag == piece) {
            if *step == Step::Both {
                options.link.push(piece.clone());
            }
            options.compile.push(piece);
        } else {
            return Err(piece);
        }
    }
    Ok(options)
}

fn has_path(option: &str) -> bool {
    option.contains(['/', '@', ','])
}

/// Cuts at blanks outside double quotes; quotes stay where they are.
fn split_quoted(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => {
                quoted = !quoted;
                piece.push(character);
            }
            blank if blank.is_whitespace() && !quoted => {
                if !piece.is_empty() {
                    pieces.push(core::mem::take(&mut piece));
                }
            }
            other => piece.push(other),
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_options_pass_unchanged() {
        let text = "-D N=64 -DTYPE=float -cl-std=CL3.0 -cl-fast-relaxed-math -cl-kernel-arg-info -D NAME=\"a b\"";
        let options = check(text).unwrap();
        assert_eq!(options.all(), text);
        assert_eq!(options.linking(), "-cl-fast-relaxed-math");
        assert_eq!(check("").unwrap().all(), "");
        assert_eq!(check("  -w\t-Werror ").unwrap().all(), "-w -Werror");
    }

    #[test]
    fn linking_has_options_of_its_own() {
        assert_eq!(
            check_link(" -create-library  -cl-denorms-are-zero").unwrap(),
            "-create-library -cl-denorms-are-zero"
        );
        assert_eq!(check_link("").unwrap(), "");
        for text in ["-cl-std=CL1.2", "-D X", "-o /tmp/x", "/etc/passwd", "-create-library -lfoo"] {
            assert!(check_link(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_names_a_file_or_is_unknown_is_refused() {
        for text in [
            "-I /etc",
            "-I/etc",
            "-include /etc/passwd",
            "-imacros /etc/passwd",
            "@/etc/passwd",
            "-o /tmp/x",
            "/etc/passwd",
            "-cl-std=/etc/passwd",
            "-Xclang -load",
            "-Wp,-include,/etc/passwd",
            "-fplugin=/tmp/x.so",
            "-D \"X -include /etc/passwd\"",
            "-DX=\"1 -include /etc/passwd\"",
            "-D X \"-include\" /etc/passwd",
            "-D -include /etc/passwd",
            "-D",
            "-x ir",
            "-save-temps",
            "-dump-opt-llvm=/tmp/x",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
