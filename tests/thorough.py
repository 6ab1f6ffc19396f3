"""What the default suite leaves out to stay within five minutes on two cores; `pytest -m thorough` runs it, as CI does.

Each of these has a sibling that stays: another variant of the same mechanism, a smaller history, fewer examples.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

THOROUGH = {
    "test_close_blocks": ("test_accounts_come_in_order_*",),
    "test_compaction": (
        *("test_killed*", "test_what_comes_after_a_merge", "test_a_night_merges_by_itself_*"),
        "test_hundreds_of_small_files_*",
    ),
    "test_corrections": (
        "*says[[]account_closed]",
        "*says[[]lapsed_credit]",
        "*says[[]open_invoice]",
        "*says[[]tax_change]",
        "*says[[]the_way_it_was_paid]",
        "*says[[]void_*]",
        "*says[[]write_off]",
    ),
    "test_dashboard": ("test_a_thousand_accounts_fit",),
    "test_elsewhere": ("test_what_is_computed_elsewhere_is_the_same",),
    "test_events_ingest": ("test_killed_anywhere_and_run_again[[]True-*", "test_any_split_into_batches_*"),
    "test_doors": ("test_events",),
    "test_events_scale": ("test_an_archive_that_explodes_is_refused[[].gz]",),
    "test_events_shapes": ("test_values_of_every_kind_*", "test_damaged_lines_among_good_ones"),
    "test_failpoints": ("*after_the_other[[]close-points[345]]", "*after_the_other[[]nightly-points6]"),
    "test_lake_s3": ("test_killed_and_run_again*", "test_a_backup_moves_a_lake_*"),
    "test_mutations": ("test_every_column_*", "test_no_row_of_the_ledger_can_go*", "test_what_is_excused_*"),
    "test_notices": ("test_killed_and_run_again*",),
    "test_payments_crash": ("test_killed_again_and_again_*[[]postgresql]", "test_two_collects_at_once[[]postgresql]"),
    "test_payments_search": ("test_no_sequence_charges_twice_or_forgets",),
    "test_properties_billing": ("test_every_month_is_billed_what_its_usage_costs",),
    "test_published": ("test_what_is_carried_over_*",),
    "test_rehearsal": ("*",),
    "test_state": (
        *("test_a_history_closes_*", "test_a_close_proves_*[[]altered]", "test_a_close_proves_*[[]misleading]"),
        *(
            "test_damage_gets_no_new_hash*",
            "test_what_cannot_be_read_*[[]missing]",
            "test_what_cannot_be_read_*[[]torn]",
        ),
    ),
    "test_state_properties": ("*",),
    "test_upgrade": ("test_a_home_of_a_version_*[[]home-[456].tar.gz]",),
}
"""By file, the tests, as patterns."""


def is_thorough(file: str, test: str) -> bool:
    """Whether a test is left out by default."""
    return any(fnmatchcase(test, pattern) for pattern in THOROUGH.get(file, ()))
