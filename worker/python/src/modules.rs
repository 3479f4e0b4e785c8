//! The Python modules of our own. The engine's functions are in `_appliance`, which applications never import: the modules
//! `appliance` and `uwsgidecorators` are Python (`package/`), and found before anything else of these names.
use crate::asgi::lifespan;
use crate::uwsgi::{locks, rpc, signals};
use crate::wsgi::hints;
use crate::{aio, cache, disconnect, metrics, task, timeout, tornado, wait, websocket};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Makes our modules importable.
pub fn install(py: Python<'_>) -> PyResult<()> {
    py.import("sys")?.getattr("modules")?.set_item("_appliance", engine(py)?)?;
    let files = PyDict::new(py);
    for file in appliance_package::FILES {
        if let Some((name, is_package)) = file.module() {
            files.set_item(name, (is_package, file.path, file.text))?;
        }
    }
    let code = std::ffi::CString::new(include_str!("package.py"))?;
    let importer = PyModule::from_code(py, &code, c"appliance/package.py", c"_appliance_package")?;
    importer.call_method1("install", (files,)).map(drop)
}

/// `_appliance`: what `package/appliance` and `loop.py` are made of.
fn engine(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "_appliance")?;
    module.add("version", env!("CARGO_PKG_VERSION"))?;
    module.add("ClientDisconnected", disconnect::class(py)?)?;
    module.add("RequestTimeout", timeout::class(py)?)?;
    module.add("CacheError", cache::error_class(py)?)?;
    module.add("RpcError", rpc::error_class(py)?)?;
    add(&module)?;
    Ok(module)
}

fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($function:path),* $(,)?) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(wait::sleep, wait::wait, hints::early_hints, task::begin);
    add!(signals::signal_free, signals::register_signal, signals::add_ms_timer, signals::add_crontab);
    add!(signals::add_file_monitor, signals::signal);
    add!(locks::lock_acquire, locks::lock_release, locks::lock_is_held, locks::lock_turn);
    add!(cache::cache_read, cache::cache_has, cache::cache_write, cache::cache_remove, cache::cache_count);
    add!(cache::cache_left, cache::cache_list, cache::cache_wipe, cache::cache_facts);
    add!(metrics::metric_family);
    module.add_class::<metrics::MetricFamily>()?;
    module.add_class::<metrics::MetricSeries>()?;
    add!(rpc::register_rpc, rpc::rpc_list, rpc::rpc_call);
    add!(tornado::log_request, lifespan::log_lifespan_end);
    add!(aio::watch, aio::change, aio::unwatch, aio::select);
    websocket::add(module)
}
