//! The numbers of the doors, for the metrics page.

use southbridge::bus_door::BusDoorSnapshot;
use southbridge::forward_proxy::ProxySnapshot;
use southbridge::module_door::ModuleDoorSnapshot;
use southbridge::synapse_door::DoorSnapshot;
use southbridge_kernel::stats::Exposition;
use southbridge_words::Class;

/// The numbers of the door for Synapse.
pub fn expose_synapse(door: &DoorSnapshot, out: &mut Exposition) {
    gauge(out, "southbridge_synapse_in_progress", "Requests of Synapse being served.", door.in_progress);
    let name = "southbridge_synapse_requests_total";
    out.head(name, "counter", "Requests of Synapse let in, by class.");
    for class in Class::ALL {
        out.value(name, &[("class", class.name())], door.requests[class]);
    }
    let name = "southbridge_synapse_answers_total";
    out.head(name, "counter", "Answers to Synapse, by the first digit of their status.");
    for (digit, count) in ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(door.answers) {
        out.value(name, &[("status", digit)], count);
    }
    for (name, help, count) in [
        ("southbridge_synapse_connections_total", "Connections of Synapse accepted.", door.connections),
        ("southbridge_synapse_denied_total", "Callers without the right secret.", door.denied),
        ("southbridge_synapse_malformed_total", "Requests refused for their form.", door.malformed),
        ("southbridge_synapse_refusals_total", "Answers of our own making.", door.refusals),
        ("southbridge_synapse_gone_total", "Callers that left before their answer.", door.gone),
        ("southbridge_synapse_cut_total", "Responses cut off because the peer's body broke off.", door.cut),
        ("southbridge_synapse_stalled_total", "Callers cut off because they did not read.", door.stalled),
        ("southbridge_synapse_redirects_total", "Media redirects followed.", door.redirects),
        ("southbridge_synapse_bytes_in_total", "Bytes of request bodies taken.", door.bytes_in),
        ("southbridge_synapse_bytes_out_total", "Bytes of response bodies passed on.", door.bytes_out),
    ] {
        counter(out, name, help, count);
    }
}

/// The numbers of the forward proxy.
pub fn expose_proxy(proxy: &ProxySnapshot, out: &mut Exposition) {
    gauge(out, "southbridge_proxy_in_progress", "Connections of the forward proxy.", proxy.in_progress);
    gauge(out, "southbridge_proxy_tunnels", "Tunnels that are open.", proxy.tunnels_open);
    for (name, help, count) in [
        ("southbridge_proxy_connections_total", "Connections accepted.", proxy.connections),
        ("southbridge_proxy_denied_total", "Callers without the right credentials.", proxy.denied),
        ("southbridge_proxy_refusals_total", "Answers of our own making.", proxy.refusals),
        ("southbridge_proxy_tunnels_total", "Tunnels opened.", proxy.tunnels),
        ("southbridge_proxy_tunnels_idle_total", "Tunnels ended because nothing moved.", proxy.tunnels_idle),
        ("southbridge_proxy_tunnels_broken_total", "Tunnels that broke.", proxy.tunnels_broken),
        ("southbridge_proxy_requests_total", "Plain requests answered by their peers.", proxy.requests),
        ("southbridge_proxy_cut_total", "Responses cut off in the middle.", proxy.cut),
        ("southbridge_proxy_bytes_up_total", "Bytes from callers.", proxy.bytes_up),
        ("southbridge_proxy_bytes_down_total", "Bytes to callers.", proxy.bytes_down),
    ] {
        counter(out, name, help, count);
    }
}

/// The numbers of the bus door.
pub fn expose_bus_door(door: &BusDoorSnapshot, out: &mut Exposition) {
    gauge(out, "southbridge_bus_door_connections", "Connections of the bus door.", door.in_progress);
    let name = "southbridge_bus_door_bodies_bytes";
    out.head(name, "gauge", "Bytes of request bodies held.");
    out.value(name, &[], door.bodies_bytes);
    let name = "southbridge_bus_door_requests_total";
    out.head(name, "counter", "Requests let in, by operation.");
    for (operation, count) in &door.requests {
        out.value(name, &[("operation", operation)], *count);
    }
    let name = "southbridge_bus_door_submissions_total";
    out.head(name, "counter", "PDUs and EDUs handed in, by what was said to them.");
    for (answer, count) in [("durable", door.durable), ("volatile", door.volatile), ("refused", door.refused)]
    {
        out.value(name, &[("answer", answer)], count);
    }
    for (name, help, count) in [
        ("southbridge_bus_door_connections_total", "Connections accepted.", door.connections),
        ("southbridge_bus_door_denied_total", "Requests without the right secret.", door.denied),
        ("southbridge_bus_door_malformed_total", "Requests refused for their form.", door.malformed),
        ("southbridge_bus_door_bytes_in_total", "Bytes of request bodies read.", door.bytes_in),
    ] {
        counter(out, name, help, count);
    }
}

/// The numbers of the module door.
pub fn expose_module(door: &ModuleDoorSnapshot, out: &mut Exposition) {
    gauge(out, "southbridge_module_connections", "Modules of homeservers connected.", door.in_progress);
    for (name, help, count) in [
        ("southbridge_module_connections_total", "Connections of modules accepted.", door.connections),
        ("southbridge_module_refused_total", "Modules that were given no bus.", door.refused),
        ("southbridge_module_malformed_total", "Modules cut off for what they said.", door.malformed),
        ("southbridge_module_requests_total", "Requests of modules read.", door.requests),
        ("southbridge_module_overloaded_total", "Requests refused: too many under way.", door.overloaded),
        ("southbridge_module_bytes_in_total", "Bytes of requests of modules read.", door.bytes_in),
    ] {
        counter(out, name, help, count);
    }
}

fn counter(out: &mut Exposition, name: &str, help: &str, count: u64) {
    out.head(name, "counter", help);
    out.value(name, &[], count);
}

fn gauge(out: &mut Exposition, name: &str, help: &str, value: u32) {
    out.head(name, "gauge", help);
    out.value(name, &[], value);
}
