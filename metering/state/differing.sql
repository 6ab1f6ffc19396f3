-- One row that the events yield and the state does not have, or the other way round.
(SELECT * FROM computed EXCEPT ALL SELECT * FROM maintained)
UNION ALL
(SELECT * FROM maintained EXCEPT ALL SELECT * FROM computed)
