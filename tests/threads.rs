//! `app.suspend = "thread"`: each request on a thread of a pool, so that blocking code keeps nobody but itself, with the same
//! HTTP as everywhere else.
use crate::harness::{Answer, Appliance, Doors, Framing, Setup, under_load, until, venvs};
use crate::{bodies, disconnect, django, frameworks, slow_peers, start, wsgi_mistakes};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

fn threaded(app: &str) -> Setup {
    Setup::app(app).set("app.suspend", "thread")
}

fn serving(cores: u32) -> Appliance {
    threaded("threads:application").set("workers.cores", cores).start()
}

#[track_caller]
fn assert_answers(appliance: &Appliance, cases: &[(&str, &str)]) {
    for (target, expected) in cases {
        let answer = appliance.get(target);
        assert_eq!((answer.status, answer.text().as_str()), (200, *expected), "{target}");
    }
}

#[test]
fn requests_that_block_run_at_once() {
    let appliance = serving(20);
    let (answers, _) = appliance.get_all(&["/sleep?s=0.5"; 20]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_answers(&appliance, &[("/sleep?s=0", "20")]);
}

#[test]
fn cores_are_the_bound_and_the_others_wait_their_turn() {
    let appliance = serving(2);
    let (answers, took) = appliance.get_all(&["/sleep?s=0.2"; 5]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(took >= Duration::from_millis(600), "{took:?}");
    assert_answers(&appliance, &[("/sleep?s=0", "2"), ("/threads", "['appliance-1', 'appliance-2']")]);
}

#[test]
fn the_loop_and_other_requests_go_on_while_some_block_and_some_compute() {
    let appliance = serving(20);
    let targets: Vec<&str> = (0..18).map(|n| if n < 2 { "/spin" } else { "/block" }).collect();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| appliance.get_all(&targets).0);
        until("they run", || appliance.get("/threads").text().matches("appliance").count() >= 18);
        assert_answers(&appliance, &[("/", "True"), ("/tick", "5"), ("/called_threadsafe", "True")]);
        assert_answers(&appliance, &[("/stop", "'stopped'")]);
        assert!(held.join().unwrap().iter().all(|answer| answer.status == 200));
    });
}

#[test]
fn threads_are_started_when_they_are_needed_and_kept() {
    let appliance = serving(20);
    // One serves, and one is there for the next request.
    assert_answers(&appliance, &[("/threads", "['appliance-1', 'appliance-2']")]);
    let (answers, _) = appliance.get_all(&["/visits"; 50]);
    assert!(answers.iter().all(|answer| answer.text().ends_with("'unset')")), "{answers:?}");
    let appliance = serving(1);
    assert_answers(&appliance, &[("/visits", "(1, 'unset')"), ("/visits", "(2, 'unset')")]);
}

#[test]
fn wait_gives_results_and_raises_exceptions() {
    assert_answers(
        &serving(20),
        &[
            ("/result", "'result'"),
            ("/gathered", "[1, 2, 3]"),
            ("/exception", "'caught from the coroutine'"),
            ("/timeout", "(['cancelled'], True)"),
            ("/cancelled", "'cancelled'"),
            ("/future_of_the_loop", "'from a future'"),
            ("/pooled", "'from a pool'"),
            ("/no_awaitable", "'TypeError'"),
            ("/context", "'of the request'"),
            ("/loops", "(True, 'a loop of its own')"),
            ("/asgiref", "'from asgiref'"),
        ],
    );
}

#[test]
fn the_functions_of_appliance_and_uwsgi_wait_on_their_thread() {
    assert_answers(
        &serving(20),
        &[
            ("/pause", "True"),
            ("/async_sleep", "True"),
            ("/wait_fd_read", "(True, b'x')"),
            ("/wait_fd_read_timeout", "(-1, True)"),
            ("/connection", "(True, 1, True)"),
        ],
    );
}

#[test]
fn what_cannot_work_says_so() {
    let appliance = serving(20);
    for (target, sentence) in [
        ("/suspend", "announce before what it waits for"),
        ("/touched", "call_soon_threadsafe()"),
        ("/in_a_callback", "works only inside a request"),
        ("/in_another_thread", "works only on the thread that serves requests"),
    ] {
        let text = appliance.get(target).text();
        assert!(text.contains(sentence), "{target}: {text}");
    }
}

/// The same request to both doors.
fn both(appliance: &Appliance, target: &str) -> [Answer; 2] {
    [appliance.get(target), appliance.worker_client(1).get(target)]
}

#[test]
fn wsgi_is_the_same() {
    let appliance = threaded("pep3333:application").start();
    for (target, status, framing, body) in [
        ("/a_list", 200, Framing::Length, "onetwo"),
        ("/a_tuple", 200, Framing::Length, "onetwo"),
        ("/a_generator", 200, Framing::Chunked, "onetwo"),
        ("/late_start", 202, Framing::Chunked, "late"),
        ("/nothing", 200, Framing::Length, ""),
        ("/own_length", 200, Framing::Length, "onetwo"),
        ("/with_write", 200, Framing::Chunked, "written and returned"),
        ("/changed_mind", 503, Framing::Length, "later"),
        ("/closes", 200, Framing::Chunked, "onetwo"),
        ("/too_long", 200, Framing::Length, "one"),
    ] {
        for answer in both(&appliance, target) {
            assert_eq!(
                (answer.status, answer.framing, answer.text().as_str()),
                (status, framing, body),
                "{target}"
            );
        }
    }
    for target in ["/too_short", "/closes_after_error", "/too_late"] {
        for mut client in [appliance.client(), appliance.worker_client(1)] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            client.try_answer().expect_err("half an answer looks like a whole one");
        }
    }
    assert_eq!(appliance.get("/was_closed").text(), "whole,whole,error,error");
    let own_source = std::fs::read_to_string(crate::harness::root().join("tests/apps/pep3333.py")).unwrap();
    assert_eq!(appliance.get("/a_file").text(), own_source);
}

#[test]
fn mistakes_are_answered_with_500() {
    let appliance = threaded("mistakes:application").set("workers.cores", 3).start();
    wsgi_mistakes::make_all(&appliance, || appliance.client());
    wsgi_mistakes::make_all(&appliance, || appliance.worker_client(1));
}

#[test]
fn bodies_come_back_as_they_were_sent() {
    bodies::assert_they_come_back(&threaded("bodies:application").start());
}

#[test]
fn slow_readers_are_waited_for_in_bounded_memory() {
    slow_peers::read_slowly(&threaded("bodies:application").set("limits.body", "32MiB").start());
}

#[test]
fn slow_uploads_are_waited_for_in_bounded_memory() {
    slow_peers::upload_slowly(&threaded("bodies:application").set("limits.body", "32MiB").start());
}

#[test]
fn flask_and_django_serve() {
    frameworks::use_flask(&frameworks::with_files(threaded("flask_site:app")));
    let shop = |articles| Doors::open(django::shop_with(articles).set("app.suspend", "thread"));
    django::use_the_admin(&shop(0));
    django::stream_rows(&shop(django::STREAMED));
}

#[test]
fn a_worker_that_is_told_to_stop_finishes_what_runs() {
    let mut appliance = serving(4);
    let path = appliance.dir().path().join("release");
    let mut client = appliance.client();
    client.send(format!("GET /until?path={} HTTP/1.1\r\nHost: test\r\n\r\n", path.display()));
    until("it runs", || appliance.get("/facts?of=ended").text().contains("begun"));
    appliance.signal(Signal::SIGTERM);
    appliance.log.wait_for("stopping");
    std::fs::write(path, "").unwrap();
    assert_eq!(client.answer().text(), "'it is there'");
    assert_eq!(appliance.wait(), Some(0));
}

#[test]
fn a_thread_that_blocks_for_ever_is_given_up_after_the_graceful_time() {
    let mut appliance = threaded("threads:application").set("timeouts.graceful", "500ms").start();
    let mut client = appliance.client();
    client.send("GET /for_ever HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it runs", || appliance.get("/threads").text().contains("appliance-3"));
    let began = Instant::now();
    appliance.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_reload_under_load_loses_nothing() {
    let code = |word: &str| {
        format!(
            "import time\ndef application(environ, start_response):\n    time.sleep(0.005)\n    \
             start_response('200 OK', [])\n    return [b'{word}']\n"
        )
    };
    let appliance = Setup::code(&code("first")).set("app.suspend", "thread").workers(2).start();
    appliance.wait_for_workers();
    let (served, failures) = under_load(&appliance, || {
        appliance.dir().write("webapp.py", &code("second"));
        appliance.signal(Signal::SIGHUP);
        until("the new code is served", || {
            (1..=2).all(|worker| appliance.worker_client(worker).get("/").text() == "second")
        });
    });
    assert!(failures.is_empty() && served > 20, "{} of {served} failed: {failures:?}", failures.len());
}

#[test]
fn a_killed_worker_is_replaced_and_serves() {
    let appliance = serving(4);
    let mut client = appliance.client();
    client.send("GET /for_ever HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it runs", || appliance.get("/threads").text().contains("appliance-3"));
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGKILL);
    appliance.successor(&worker);
    assert_answers(&appliance, &[("/result", "'result'"), ("/sleep?s=0", "1")]);
}

/// Fewer cores than requests that are left, so that each must be given back.
fn left_site() -> disconnect::Site {
    disconnect::Site::start(threaded("leavers:application").set("workers.cores", 2))
}

#[test]
fn a_request_whose_client_has_left_ends_where_it_waits() {
    let site = left_site();
    for name in ["sleeping", "descriptor"] {
        let ended = format!("{name}: appliance.ClientDisconnected, False");
        site.leave(&disconnect::get(&format!("/{name}")), &[&ended]);
    }
    let caught = ["caught: appliance.ClientDisconnected, False", "caught: cleaned up"];
    site.leave(&disconnect::get("/caught"), &caught);
    let upload = "POST /reading HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    let upload = format!("{upload}{}", "x".repeat(100_000));
    site.leave(&upload, &["reading: builtins.OSError, False"]);
    for mut client in site.doors() {
        client.send(disconnect::get("/awaiting"));
        assert_eq!(site.noted(1), ["awaiting began"]);
        drop(client);
        // Each on its own thread.
        let mut ended = site.noted(2);
        ended.sort();
        assert_eq!(ended, ["awaiting: appliance.ClientDisconnected, False", "the coroutine: cancelled"]);
    }
    assert!(!site.appliance.log.text().contains("Traceback"), "{}", site.appliance.log.text());
}

#[test]
fn what_it_returned_is_closed_between_two_pieces() {
    let site = left_site();
    for mut client in site.doors() {
        client.send(disconnect::get("/chunks/without-end"));
        assert_eq!(site.noted(1), ["chunks began"]);
        drop(client);
        assert!(site.noted(2).contains(&"chunks: closed".to_owned()));
    }
    for mut client in site.doors() {
        assert_eq!(client.get("/tail").text(), "done");
        drop(client);
        assert_eq!(site.noted(2), ["tail began", "tail: done"], "it had its answer");
    }
}

#[test]
fn a_request_may_run_on_without_its_client() {
    let setup = threaded("leavers:application").set("app.cancel_on_disconnect", false);
    let site = disconnect::Site::start(setup.set("workers.cores", 10));
    for (index, mut client) in site.doors().into_iter().enumerate() {
        let file = site.appliance.dir().path().join(index.to_string());
        client.send(disconnect::get(&format!("/held?{}", file.display())));
        assert_eq!(site.noted(1), ["held began"]);
        drop(client);
        site.appliance.dir().write(&index.to_string(), "");
        assert_eq!(site.noted(1), ["held: done"]);
    }
}

#[test]
fn blocking_code_is_not_interrupted_and_its_core_is_free_afterwards() {
    let appliance = serving(1);
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send("GET /endless HTTP/1.1\r\nHost: test\r\n\r\n");
        until("the answer has begun", || !client.arrived_within(Duration::from_millis(20)).is_empty());
    }
    assert_answers(&appliance, &[("/facts?of=ended", "['closed', 'closed']")]);
    let path = appliance.dir().path().join("release");
    let mut client = appliance.client();
    client.send(format!("GET /until?path={} HTTP/1.1\r\nHost: test\r\n\r\n", path.display()));
    drop(client);
    std::fs::write(path, "").unwrap();
    until("it came to its end, or never began", || {
        let ended = appliance.get("/facts?of=ended").text();
        ended.ends_with("'closed']") || ended.ends_with("'begun', 'over']")
    });
}

#[test]
fn greenlet_is_not_needed() {
    let setup = threaded("threads:application");
    let venv = setup.dir().path().join("venv");
    let made =
        Command::new(start::base_python()).args(["-m", "venv", "--without-pip"]).arg(&venv).status().unwrap();
    assert!(made.success());
    let appliance = setup.venv(Some(venv)).set("workers.cores", 9).start();
    let loaded = appliance.log.event("the runtime", |event| event["runtime"].is_string());
    assert!(loaded["runtime"].as_str().unwrap().contains("up to 9 threads a worker"), "{loaded}");
    assert_answers(&appliance, &[("/", "True"), ("/result", "'result'"), ("/pause", "True")]);
    assert_eq!(appliance.get("/no_such_function").status, 500);
}

#[test]
fn every_python_serves() {
    for venv in venvs() {
        let mut appliance = threaded("threads:application").set("workers.cores", 5).venv(Some(venv)).start();
        let (answers, _) = appliance.get_all(&["/sleep?s=0.1"; 10]);
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_answers(
            &appliance,
            &[
                ("/result", "'result'"),
                ("/timeout", "(['cancelled'], True)"),
                ("/loops", "(True, 'a loop of its own')"),
                ("/wait_fd_read", "(True, b'x')"),
                ("/async_sleep", "True"),
            ],
        );
        assert_eq!(appliance.get("/no_such_function").status, 500);
        assert_eq!(appliance.stop(), Some(0));
    }
}
