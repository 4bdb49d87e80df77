use super::{KeyPicker, Popularity, Scatter};
use pinnace_types::Prng;

const DRAWS: usize = 400_000;

fn counts(popularity: &str, keys: u64) -> Vec<u64> {
    let picker = KeyPicker::new(Popularity::parse(popularity).unwrap(), keys);
    let mut prng = Prng::new(11);
    let mut counts = vec![0; keys as usize];
    for _ in 0..DRAWS {
        counts[picker.pick(&mut prng, |age| keys - 1 - age) as usize] += 1;
    }
    counts
}

/// Chi-squared of drawn ranks against a Zipf law, over the first ranks and the rest together.
fn zipf_chi_squared(exponent: f64, keys: u64, drawn: &[u64]) -> f64 {
    let weight = |rank: usize| (rank as f64 + 1.0).powf(-exponent);
    let total: f64 = (0..keys as usize).map(weight).sum();
    let expected = |rank| weight(rank) / total * DRAWS as f64;
    let mut sum = 0.0;
    for (rank, &count) in drawn[..30].iter().enumerate() {
        sum += (count as f64 - expected(rank)).powi(2) / expected(rank);
    }
    let rest: f64 = (30..keys as usize).map(expected).sum();
    let rest_drawn: u64 = drawn[30..].iter().sum();
    sum + (rest_drawn as f64 - rest).powi(2) / rest
}

#[test]
fn zipf_ranks_follow_the_law() {
    for exponent in [0.5, 0.99, 1.0, 1.2, 2.5] {
        let by_key = counts(&format!("zipf:{exponent}"), 1000);
        let scatter = Scatter::new(1000);
        let by_rank: Vec<u64> = (0..1000).map(|rank| by_key[scatter.apply(rank) as usize]).collect();
        let chi_squared = zipf_chi_squared(exponent, 1000, &by_rank);
        // 30 degrees of freedom: 59.7 is passed by chance once in a thousand.
        assert!(chi_squared < 59.7, "exponent {exponent}: {chi_squared}");
    }
}

#[test]
fn latest_prefers_the_newest() {
    let drawn = counts("latest", 1000);
    assert!(drawn[999] > drawn[998] && drawn[998] > drawn[900]);
    let mut reversed = drawn;
    reversed.reverse();
    assert!(zipf_chi_squared(0.99, 1000, &reversed) < 59.7);
}

#[test]
fn uniform_covers_all_and_hot_set_keeps_its_shares() {
    let uniform = counts("uniform", 100);
    assert!(uniform.iter().all(|&n| (3700..4300).contains(&n)), "{uniform:?}");
    let mut hot = counts("hot:10%,90%", 1000);
    hot.sort_unstable_by_key(|&n| std::cmp::Reverse(n));
    let share = hot[..100].iter().sum::<u64>() as f64 / DRAWS as f64;
    assert!((0.895..0.905).contains(&share), "{share}");
}

#[test]
fn scatter_is_a_permutation_that_separates_neighbours() {
    for count in [1, 2, 10, 1000, 65_537] {
        let scatter = Scatter::new(count);
        let mut seen = vec![false; count as usize];
        (0..count).for_each(|rank| seen[scatter.apply(rank) as usize] = true);
        assert!(seen.iter().all(|&s| s), "{count}");
    }
    let scatter = Scatter::new(1_000_000);
    assert!(scatter.apply(1).abs_diff(scatter.apply(2)) > 1000);
}

#[test]
fn nonsense_is_refused() {
    for bad in ["", "zip", "zipf:x", "zipf:-1", "hot", "hot:10", "hot:1,101", "uniform:1"] {
        assert!(Popularity::parse(bad).is_err(), "{bad}");
    }
}
