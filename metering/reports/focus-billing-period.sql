-- One closed month as a row of FOCUS 1.4 Billing Period.
SELECT
    strftime(make_timestamp(c.period_start), '%Y-%m-%dT%H:%M:%SZ') AS BillingPeriodCreated,
    strftime(make_timestamp(c.period_end), '%Y-%m-%dT%H:%M:%SZ') AS BillingPeriodEnd,
    strftime(make_timestamp(c.closed_at), '%Y-%m-%dT%H:%M:%SZ') AS BillingPeriodLastUpdated,
    strftime(make_timestamp(c.period_start), '%Y-%m-%dT%H:%M:%SZ') AS BillingPeriodStart,
    'Closed' AS BillingPeriodStatus,
    given.issuer AS InvoiceIssuerName
FROM asked
JOIN closes AS c ON c.month BETWEEN asked.month_from AND asked.month_to
CROSS JOIN given
ORDER BY c.month
