//! Which requests are for the application of `[native]`, where another one is the main application. Pure.
use crate::Request;
use crate::app::Door;
use appliance_config::settings::Route;

/// Whether a request is for the application of `[native]`: it came to the worker's own listener, or a route leads there.
pub(super) fn is_beside(request: &Request, routes: &[Route]) -> bool {
    request.errand.is_none()
        && (request.peer.door == Door::Native || leads(routes, request.received.head.path()))
}

/// Whether a route leads from a path, which is still percent-encoded, to the native application.
fn leads(routes: &[Route], path: &[u8]) -> bool {
    let is_below = |route: &Route| {
        let prefix = route.path.trim_end_matches('/').as_bytes();
        let mut decoded = decode(path);
        let is_start = prefix.iter().all(|byte| decoded.next() == Some(*byte));
        is_start && matches!(decoded.next(), None | Some(b'/'))
    };
    routes.iter().any(is_below)
}

/// The bytes that a path means; what only looks percent-encoded stands for itself.
fn decode(path: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    let mut rest = path;
    std::iter::from_fn(move || {
        if let [b'%', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            rest = after;
            return u8::try_from(high * 16 + low).ok();
        }
        let (first, after) = rest.split_first()?;
        rest = after;
        Some(*first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_leads_from_its_path_and_all_below_it() {
        let routes = [Route { path: "/fast".to_owned() }, Route { path: "/a b".to_owned() }];
        for path in ["/fast", "/fast/", "/fast/x", "/f%61st/x", "/a%20b", "/a%20b/%"] {
            assert!(leads(&routes, path.as_bytes()), "{path}");
        }
        for path in ["/", "/faster", "/fas", "/x/fast", "*", "/fast%2", ""] {
            assert!(!leads(&routes, path.as_bytes()), "{path}");
        }
        assert!(leads(&[Route { path: "/".to_owned() }], b"/anything"));
        assert!(!leads(&[], b"/"));
    }
}
