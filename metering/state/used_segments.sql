-- One folder that is being written and holds something.
SELECT segment FROM moving
UNION
SELECT segment FROM moving_vms
ORDER BY segment
