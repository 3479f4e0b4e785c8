//! How a Python application is named: `module`, `module:callable` or `module:factory()`, with the interface that it speaks in
//! front where that is to be said: `asgi:module:callable`. Read by the checks and by the engine library. Pure; whether the
//! module exists is found out when it is imported.

/// What a server and an application say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// PEP 3333.
    Wsgi,
    /// ASGI 3.
    Asgi,
    /// A `tornado.web.Application`, served by Tornado's own HTTP server.
    Tornado,
}

/// The name of a Python application, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// What was said about its interface; `None`: it shows when the application is there.
    pub interface: Option<Interface>,
    /// The module, with dots.
    pub module: &'a str,
    /// The callable in it, with dots, and `()` behind a factory.
    pub callable: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Reads a name; `None` if it is none. A word before the module is an interface only where a callable follows, so that
    /// `asgi:application` is what it has always been: `application` in `asgi.py`.
    pub fn parse(text: &'a str) -> Option<Target<'a>> {
        let (interface, rest) = match text.split_once(':') {
            Some((word, rest)) if rest.contains(':') => (Some(interface(word)?), rest),
            _ => (None, text),
        };
        let (module, callable) =
            rest.split_once(':').map_or((rest, None), |(module, name)| (module, Some(name)));
        let path = callable.map(|name| name.strip_suffix("()").unwrap_or(name));
        let is_code = !module.ends_with(".py") && module != "native";
        let fits = dotted(module) && path.is_none_or(dotted) && is_code;
        fits.then_some(Target { interface, module, callable })
    }
}

fn interface(word: &str) -> Option<Interface> {
    match word {
        "wsgi" => Some(Interface::Wsgi),
        "asgi" => Some(Interface::Asgi),
        "tornado" => Some(Interface::Tornado),
        _ => None,
    }
}

/// Python identifiers with dots between them.
fn dotted(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_python_names() {
        for text in ["app", "site.wsgi", "app:app", "app:make()", "app:registry.main", "größe:app"] {
            assert!(Target::parse(text).is_some_and(|target| target.interface.is_none()), "{text}");
        }
        let wrong = [
            "",
            ":app",
            "app:",
            "app.py",
            "app.py:app",
            "src/app",
            "app:make(1)",
            "my-app",
            "1app",
            "a..b",
            "native:x",
        ];
        for text in wrong {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_interface_may_stand_in_front_of_all_three_parts() {
        let target = |interface, module, callable| Some(Target { interface, module, callable });
        assert_eq!(Target::parse("asgi:web:app"), target(Some(Interface::Asgi), "web", Some("app")));
        assert_eq!(Target::parse("wsgi:web:make()"), target(Some(Interface::Wsgi), "web", Some("make()")));
        assert_eq!(Target::parse("tornado:a.b:c.d"), target(Some(Interface::Tornado), "a.b", Some("c.d")));
        assert_eq!(Target::parse("asgi:application"), target(None, "asgi", Some("application")));
        for text in ["rsgi:web:app", "asgi::app", "asgi:web:", "asgi:web:app:more"] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
    }
}
