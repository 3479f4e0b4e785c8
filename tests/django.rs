//! Django as it comes from PyPI: a project with its admin, sessions, CSRF, a database and static files, unchanged, through
//! the proxy and on a worker's own listener.
use crate::bodies::{assert_same, pattern};
use crate::harness::{Answer, Client, DOORS, Door, Doors, Form, Setup, default_venv, root};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

const UPLOAD: usize = 20_000_000;
pub const STREAMED: usize = 10_000;

/// What its owner does before the first start, by `manage.py shell`.
const PREPARE: &str = "
from django.contrib.auth.models import User
from django.core.management import call_command
from shop.models import Article
call_command('migrate', run_syncdb=True, verbosity=0)
User.objects.create_superuser('boss', password='secret')
Article.objects.bulk_create(Article(name=f'article {number}') for number in range(ARTICLES))
";

/// The shop as somebody finds it who has not prepared its database.
fn shop() -> Setup {
    let setup = Setup::app("shop.wsgi:application").set("limits.body", "32MiB");
    let folder = setup.dir().path().display().to_string();
    setup.env("SHOP_FOLDER", folder)
}

/// The shop with a database that has the user `boss` and so many articles.
#[track_caller]
pub fn shop_with(articles: usize) -> Setup {
    let setup = shop();
    let output = Command::new(default_venv().join("bin/python"))
        .args(["-m", "django", "shell", "-c", &PREPARE.replace("ARTICLES", &articles.to_string())])
        .current_dir(root().join("tests/apps"))
        .envs([
            ("DJANGO_SETTINGS_MODULE", "shop.settings"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONPATH", "."),
        ])
        .env("SHOP_FOLDER", setup.dir().path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    setup
}

/// Somebody with a browser: keeps cookies, and fills in the hidden field of a form that it was shown.
struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn at(shop: &Doors, door: Door) -> Browser {
        Browser { client: shop.client(door), cookies: BTreeMap::new() }
    }

    #[track_caller]
    fn get(&mut self, target: &str) -> Answer {
        let answer = self.client.get_with(target, &self.cookie_line());
        self.keep_cookies(&answer);
        answer
    }

    /// Looks at the page with a form, and submits it as `fill` says.
    #[track_caller]
    fn submit(&mut self, target: &str, fill: impl FnOnce(Form) -> Form) -> Answer {
        let page = self.get(target).text();
        let token = page
            .split("name=\"csrfmiddlewaretoken\" value=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let form = Form::default()
            .field("csrfmiddlewaretoken", token.unwrap_or_else(|| panic!("no form in {page}")));
        let cookies = self.cookie_line();
        let answer = fill(form).submit(&mut self.client, target, &cookies);
        self.keep_cookies(&answer);
        answer
    }

    fn cookie_line(&self) -> String {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) }
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for (_, value) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

#[test]
fn the_admin_works() {
    use_the_admin(&Doors::open(shop_with(0)));
}

/// Does what somebody does who looks after the shop.
#[track_caller]
pub fn use_the_admin(shop: &Doors) {
    for door in DOORS {
        let mut boss = Browser::at(shop, door);
        let sent_away = boss.get("/admin/shop/article/");
        assert_eq!(sent_away.header("location"), Some("/admin/login/?next=/admin/shop/article/"), "{door:?}");
        let form = |form: Form| form.field("username", "boss").field("password", "secret");
        assert_eq!(boss.submit("/admin/login/?next=/admin/", form).status, 302, "{door:?}");
        let name = format!("A kettle, {door:?}");
        let manual = pattern(300_000);
        let file = format!("{door:?}.bin");
        let added = boss.submit("/admin/shop/article/add/", |form| {
            form.field("name", &name).file("manual", &file, &manual)
        });
        assert_eq!(added.header("location"), Some("/admin/shop/article/"), "{door:?}: {}", added.text());
        let list = boss.get("/admin/shop/article/").text();
        assert!(list.contains("was added successfully") && list.contains(&name), "{door:?}: {list}");
        let target = format!("/media/{file}");
        let downloaded = boss.get(&target);
        assert_same(&downloaded.body, &manual, &target);
        let since = format!("If-Modified-Since: {}\r\n", downloaded.header("last-modified").unwrap());
        assert_eq!(boss.client.get_with(&target, &since).status, 304, "{door:?}");
        let forged =
            Form::default().field("name", "forged").submit(&mut boss.client, "/admin/shop/article/add/", "");
        assert_eq!(forged.status, 403, "{door:?}: without the token of the form");
    }
}

#[test]
fn static_files_come_through_django_s_own_view() {
    let shop = Doors::open(shop());
    for door in DOORS {
        let mut client = shop.client(door);
        let sheet = client.get("/static/admin/css/base.css");
        assert_eq!((sheet.status, sheet.header("content-type")), (200, Some("text/css")), "{door:?}");
        assert_eq!(sheet.header("content-length"), Some(sheet.body.len().to_string().as_str()), "{door:?}");
        assert!(sheet.text().contains("DJANGO Admin styles"), "{door:?}");
        client.send("HEAD /static/admin/css/base.css HTTP/1.1\r\nHost: test\r\n\r\n");
        let head = client.answer_to_head();
        assert_eq!(head.header("content-length"), sheet.header("content-length"), "{door:?}");
        assert_eq!(client.get("/static/admin/css/none.css").status, 404, "{door:?}");
    }
}

#[test]
fn uploads_of_twenty_megabytes_arrive() {
    let shop = Doors::open(shop());
    let content = pattern(UPLOAD);
    for (to, kept) in [("memory", "InMemoryUploadedFile"), ("disk", "TemporaryUploadedFile")] {
        std::thread::scope(|scope| {
            for door in DOORS {
                let (shop, content) = (&shop, &content);
                scope.spawn(move || {
                    let file = format!("{door:?}-{to}.bin");
                    let form = Form::default().field("title", "Kettle").file("file", &file, content);
                    let answer = form.submit(&mut shop.client(door), &format!("/upload?to={to}"), "");
                    assert_eq!(
                        answer.json(),
                        json!({"kept": kept, "size": UPLOAD, "title": "Kettle"}),
                        "{door:?}"
                    );
                    let saved = fs::read(shop.appliance.dir().path().join(file)).unwrap();
                    assert_same(&saved, content, &format!("{door:?}, {to}"));
                });
            }
        });
    }
}

#[test]
fn rows_are_streamed_while_others_use_the_database() {
    stream_rows(&Doors::open(shop_with(STREAMED)));
}

/// Reads rows slowly, and others of the same database meanwhile.
#[track_caller]
pub fn stream_rows(shop: &Doors) {
    let expected: String = (0..STREAMED).map(|number| format!("article {number}\n")).collect();
    for door in DOORS {
        let mut streams: Vec<Client> = (0..3).map(|_| shop.client(door)).collect();
        for client in &mut streams {
            client.send("GET /names HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        let (answers, _) = shop.appliance.get_all(&["/slow"; 10]);
        assert!(answers.iter().all(|answer| answer.json() == json!({"same": true})), "{door:?}: {answers:?}");
        for client in &mut streams {
            assert_eq!(client.answer().text(), expected, "{door:?}");
        }
    }
}

#[test]
fn a_view_that_fails_is_answered_500_and_told_in_the_log() {
    let shop = Doors::open(shop());
    for door in DOORS {
        let answer = shop.client(door).get("/broken");
        assert_eq!(answer.status, 500, "{door:?}");
        assert!(answer.text().contains("Server Error (500)"), "{door:?}: {}", answer.text());
    }
    shop.appliance.log.wait_for("ValueError: a bug in a view");
}
