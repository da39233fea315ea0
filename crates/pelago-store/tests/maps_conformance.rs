//! The conformance suite over the simulator's maps.

mod maps;

use pelago_store::conformance;

#[test]
fn the_maps_keep_the_rules() {
    conformance::run(maps::Maps::default);
}
