-- One snapshot's share of an invoice line, or a line's tax, as a row of FOCUS 1.4 Cost and Usage.
WITH shares AS (
    SELECT
        l.*,
        a.project_id,
        a.snapshot_id,
        CAST(a.amount_minor * l.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS billed,
        -- GB-hours in units of 10^-9, rounded half away from zero as everywhere.
        CASE WHEN a.byte_micros < 0 THEN -1 ELSE 1 END * (
            (2 * CAST(l.numerator AS HUGEINT) * abs(CAST(a.byte_micros AS HUGEINT)) + l.denominator) // (2 * l.denominator)
        ) AS nano_gb_hours,
        CAST(CAST(l.price_per_gb_hour AS DECIMAL(30, 12)) * 1000000000000 AS HUGEINT) AS pico_price
    FROM focus_lines AS l
    JOIN allocations AS a ON a.invoice = l.invoice AND a.line = l.line
),
rated AS (
    SELECT
        shares.*,
        CAST(nano_gb_hours AS DECIMAL(29, 0)) * CAST(0.000000001 AS DECIMAL(9, 9)) AS quantity,
        CAST(
            CASE WHEN nano_gb_hours < 0 THEN -1 ELSE 1 END
            * ((2 * abs(nano_gb_hours) * pico_price + 1000000000) // 2000000000) AS DECIMAL(26, 0)
        ) * CAST(0.000000000001 AS DECIMAL(12, 12)) AS contracted
    FROM shares
),
charges AS (
    SELECT
        detail_id, 'Usage' AS category, charge_class, account_id, account_version, currency, billing_start, billing_end,
        charge_start, charge_end, issuer, invoice, line, region, sku, resource_type, snapshot_id, project_id,
        billed, CAST(contracted AS DECIMAL(38, 12)) AS contracted, quantity, gb_hours_unit AS unit, CAST(price_per_gb_hour AS DECIMAL(30, 12)) AS price, kind
    FROM rated
    UNION ALL
    SELECT
        detail_id || '/tax', 'Tax', charge_class, account_id, account_version, currency, billing_start, billing_end,
        charge_start, charge_end, issuer, invoice, line, region, NULL, NULL, NULL, NULL,
        tax, CAST(tax AS DECIMAL(38, 12)), NULL, NULL, NULL, kind
    FROM focus_lines
    WHERE tax <> 0
)
SELECT
    CAST(c.billed AS DECIMAL(38, 3)) AS BilledCost,
    c.account_id AS BillingAccountId,
    v.name AS BillingAccountName,
    c.currency AS BillingCurrency,
    c.billing_end AS BillingPeriodEnd,
    c.billing_start AS BillingPeriodStart,
    c.category AS ChargeCategory,
    c.charge_class AS ChargeClass,
    CASE
        WHEN c.category = 'Tax' THEN 'Tax on line ' || c.line
        WHEN c.kind = 'adjustment' THEN 'Correction of snapshot storage'
        ELSE 'Snapshot storage'
    END AS ChargeDescription,
    'Usage-Based' AS ChargeFrequency,
    c.charge_end AS ChargePeriodEnd,
    c.charge_start AS ChargePeriodStart,
    c.quantity AS ConsumedQuantity,
    c.unit AS ConsumedUnit,
    CAST(c.contracted AS DECIMAL(38, 12)) AS ContractedCost,
    c.price AS ContractedUnitPrice,
    CAST(c.billed AS DECIMAL(38, 3)) AS EffectiveCost,
    c.issuer AS HostProviderName,
    c.detail_id AS InvoiceDetailId,
    c.invoice AS InvoiceId,
    c.issuer AS InvoiceIssuerName,
    CAST(c.contracted AS DECIMAL(38, 12)) AS ListCost,
    CASE WHEN c.category = 'Usage' THEN 'Standard' END AS PricingCategory,
    c.quantity AS PricingQuantity,
    c.unit AS PricingUnit,
    c.region AS RegionId,
    c.region AS RegionName,
    c.snapshot_id AS ResourceId,
    c.resource_type AS ResourceType,
    'Storage' AS ServiceCategory,
    'Snapshots' AS ServiceName,
    c.issuer AS ServiceProviderName,
    'Backup Storage' AS ServiceSubcategory,
    c.sku AS SkuId,
    c.sku AS SkuMeter,
    c.project_id AS SubAccountId,
    c.project_id AS SubAccountName
FROM charges AS c
JOIN account_versions AS v ON v.account_id = c.account_id AND v.version = c.account_version
ORDER BY c.invoice, c.line, c.category DESC, c.project_id, c.snapshot_id
