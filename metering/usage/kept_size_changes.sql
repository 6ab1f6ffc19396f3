-- One size change, as the state has it; see size_changes.
SELECT subject_high, subject_low, changed_at, next_changed_at, size_bytes
FROM stored_size_changes
ANTI JOIN superseded USING (segment, subject_high)
