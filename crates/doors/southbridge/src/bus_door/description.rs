//! The description of the API (OpenAPI 3.1), and the check that it says what is so.

/// The description, as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::OPENAPI;
    use crate::bus_door::failure::Code;
    use crate::bus_door::routes::{ROUTES, STATUSES_OF_ALL};

    fn description() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    /// What is described is there, and what is there is described: paths, methods, statuses, arguments.
    #[test]
    fn the_description_says_what_the_table_says() {
        let description = description();
        let described: BTreeSet<(String, String)> = keys(&description["paths"])
            .into_iter()
            .flat_map(|path| {
                let methods = keys(&description["paths"][&path]);
                methods.into_iter().map(move |method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let routed = ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_owned()));
        assert_eq!(described, routed.collect());
        for route in ROUTES {
            let operation = &description["paths"][route.path][route.method.to_lowercase()];
            assert_eq!(operation["operationId"], route.operation.name());
            let statuses = route.statuses.iter().chain(&STATUSES_OF_ALL).map(u16::to_string);
            assert_eq!(keys(&operation["responses"]), statuses.collect(), "{} {}", route.method, route.path);
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let (path, query): (Vec<_>, Vec<_>) = parameters.partition(|it| it["in"] == "path");
            let names: Vec<_> = query.iter().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(names, route.arguments, "{} {}", route.method, route.path);
            let named: Vec<_> =
                path.iter().map(|it| format!("{{{}}}", it["name"].as_str().unwrap())).collect();
            assert!(named.len() == usize::from(route.path.contains('{')));
            assert!(named.iter().all(|name| route.path.ends_with(name.as_str())), "{}", route.path);
        }
    }

    #[test]
    fn every_code_is_described() {
        let description = description();
        let described = &description["components"]["schemas"]["Code"]["enum"];
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(*described, serde_json::json!(codes));
    }

    /// A reader of unknown fields lists those it knows; these are the fields of the schema.
    #[test]
    fn the_fields_of_requests_are_described() {
        use crate::bus_door::{checks, question, sets, submission};
        let description = description();
        for (schema, known) in [
            ("SendRequest", submission::fields_of_body()),
            ("Submission", submission::fields_of_submission()),
            ("Edu", submission::fields_of_edu()),
            ("Query", question::fields()),
            ("VerifyRequest", checks::fields_of_body()),
            ("Check", checks::fields_of_check()),
            ("IncomingRequest", checks::fields_of_request()),
            ("SetRequest", sets::fields()),
            ("WakeRequest", sets::fields()),
        ] {
            let described = keys(&description["components"]["schemas"][schema]["properties"]);
            assert_eq!(described, known, "{schema}");
        }
    }

    /// A reference that leads nowhere helps nobody.
    #[test]
    fn every_reference_leads_somewhere() {
        fn visit(value: &Value, all: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(reference) = map.get("$ref") {
                        let path = reference.as_str().unwrap().trim_start_matches('#');
                        assert!(all.pointer(path).is_some(), "{path}");
                    }
                    map.values().for_each(|value| visit(value, all));
                }
                Value::Array(list) => list.iter().for_each(|value| visit(value, all)),
                _ => {}
            }
        }
        let description = description();
        visit(&description, &description);
    }
}
