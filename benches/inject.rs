//! With what? The lease of a task in memory, and its secret in the request, or a signature by it.
use std::sync::Arc;

use benches::{Sent, World};
use credentials::{
    Binding, Credentials, Injection, Kept, KeptField, Place, SecretRef, SigV4, SigV4Location,
    Static,
};
use criterion::{BatchSize, Criterion};
use tasks::Access;

pub(crate) fn inject(criterion: &mut Criterion) {
    let world = World::new();
    measure(
        criterion,
        "lease/look_up_and_inject",
        &world,
        &world.credentials,
    );
}

/// Keys of AWS sign the call.
pub(crate) fn sigv4(criterion: &mut Criterion) {
    let world = World::new();
    let field = |name: &str| {
        let path = world.folder().join(name);
        std::fs::copy(world.folder().join("secret"), &path).unwrap();
        KeptField {
            name: name.to_owned(),
            secret: SecretRef::File(path),
            is_public: false,
        }
    };
    let fields = ["access_key_id", "secret_access_key", "session_token"].map(field);
    let until = "9999-12-31".parse().unwrap();
    let place = Place::SigV4(SigV4 {
        service: "execute-api".to_owned(),
        region: "eu-west-1".to_owned(),
        location: SigV4Location::Header,
        allow_headers: Vec::new(),
    });
    let binding = Binding {
        tool: "tickets".parse().unwrap(),
        access: Access::Write,
        provider: Arc::new(Static::new(Kept::Fields(fields.into()), until)),
        injections: vec![Injection::from(place)],
    };
    let leases = Arc::clone(world.credentials.leases());
    let credentials = Credentials::new(vec![binding], leases);
    measure(criterion, "lease/look_up_and_sign", &world, &credentials);
}

fn measure(criterion: &mut Criterion, name: &str, world: &World, credentials: &Credentials) {
    criterion.bench_function(name, |bench| {
        bench.iter_batched(
            || world.permit(Sent::McpCall),
            |permit| {
                let issuing = credentials.issue(permit);
                world.runtime.block_on(issuing).unwrap().inject().unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}
