//! Several bundles as one policy: each owns names of its own.

use super::manifest::parts;
use super::{BadBundle, Bundle};
use crate::source::{Kind, Source};

/// The files of all of them; rules and samples are named `<bundle>/<path>`, data stands where it stood.
pub(crate) fn join(bundles: Vec<(String, Bundle)>) -> Result<Vec<Source>, BadBundle> {
    let mut owned: Vec<(String, String)> = Vec::new();
    for (name, bundle) in &bundles {
        for root in &bundle.manifest().roots {
            let meets = |(other, _): &&(String, String)| overlap(root, other);
            if let Some((other, owner)) = owned.iter().find(meets) {
                return Err(BadBundle::Overlap {
                    root: root.clone(),
                    bundle: name.clone(),
                    other: other.clone(),
                    owner: owner.clone(),
                });
            }
        }
        let roots = bundle.manifest().roots.iter();
        owned.extend(roots.map(|root| (root.clone(), name.clone())));
    }
    let files = bundles.into_iter().flat_map(|(name, bundle)| {
        let sources = bundle.into_sources().into_iter();
        sources.map(move |source| below(&name, source))
    });
    Ok(files.collect())
}

fn below(bundle: &str, source: Source) -> Source {
    match source.kind() {
        // Its folders say where it goes.
        Kind::Json | Kind::Yaml => source,
        Kind::Rules | Kind::Tests | Kind::Sample | Kind::Manifest | Kind::Other => Source {
            path: std::path::Path::new(bundle).join(&source.path),
            ..source
        },
    }
}

/// Whether one is the other, or lies in it.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (parts(one), parts(other));
    one.starts_with(&other) || other.starts_with(&one)
}

#[cfg(test)]
mod tests {
    use super::{join, overlap};
    use crate::bundle::{Bundle, Manifest};
    use crate::source::Source;

    fn bundle(name: &str, root: &str, files: &[(&str, &str)]) -> (String, Bundle) {
        let manifest = Manifest {
            roots: vec![root.to_owned()],
            ..Manifest::default()
        };
        let source = |(path, text): &(&str, &str)| Source {
            path: path.into(),
            text: (*text).to_owned(),
        };
        let sources = files.iter().map(source).collect();
        (name.to_owned(), Bundle::new(&manifest, sources).unwrap())
    }

    #[test]
    fn rules_are_named_by_their_bundle_and_data_stays() {
        let rules = bundle(
            "rules",
            "remit",
            &[("a.rego", "package remit.all\nallow if true")],
        );
        let data = bundle("data", "limits", &[("limits/data.json", "{\"a\": 1}")]);
        let joined = join(vec![rules, data]).unwrap();
        let names: Vec<String> = joined.iter().map(Source::name).collect();
        assert_eq!(names, ["rules/a.rego", "limits/data.json"]);
    }
    #[test]
    fn two_owners_of_a_name_are_refused() {
        let error = join(vec![
            bundle("one", "remit", &[]),
            bundle("two", "remit/all", &[]),
        ]);
        let error = error.unwrap_err();
        assert_eq!(error.code(), "bundle-overlapping-roots");
        let told = error.to_string();
        assert!(told.contains("`two`") && told.contains("`one`"), "{told}");
    }
    #[test]
    fn names_that_begin_alike_do_not_meet() {
        assert!(!overlap("remit/tools/a", "remit/tools/ab"));
        assert!(overlap("remit/tools", "remit/tools/ab"));
        assert!(overlap("", "anything"));
    }
}
