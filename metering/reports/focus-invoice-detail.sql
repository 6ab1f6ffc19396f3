-- One line of an invoice, or its tax, as a row of FOCUS 1.4 Invoice Detail; settlement stands on an invoice's first row.
WITH details AS (
    SELECT
        l.*, l.detail_id AS row_id, 'Usage' AS category, l.amount AS billed, l.line = 1 AS is_first,
        l.resource_type || 's in ' || l.region AS description
    FROM focus_lines AS l
    UNION ALL
    SELECT l.*, l.detail_id || '/tax', 'Tax', l.tax, FALSE, 'tax of ' || l.tax_rate || ' % on line ' || l.line
    FROM focus_lines AS l
    WHERE l.tax <> 0
),
settled AS (
    SELECT
        i.invoice,
        s.status,
        i.total_minor,
        i.brought_forward_minor,
        coalesce(e.credit_applied, 0) AS credit_minor,
        coalesce(e.balance_applied, 0) AS balance_minor,
        coalesce(e.card_charged, 0) AS card_minor,
        s.amount_due_minor
    FROM invoices AS i
    JOIN invoice_status AS s ON s.invoice = i.invoice
    LEFT JOIN settlements AS e ON e.invoice = i.invoice
)
SELECT
    CAST(d.billed AS DECIMAL(38, 3)) AS BilledCost,
    d.account_id AS BillingAccountId,
    d.currency AS BillingCurrency,
    d.billing_end AS BillingPeriodEnd,
    d.billing_start AS BillingPeriodStart,
    d.category AS ChargeCategory,
    d.issued_second AS InvoiceDetailCreated,
    CASE d.kind WHEN 'adjustment' THEN 'Correction of ' || d.month || ': ' ELSE '' END || d.description AS InvoiceDetailDescription,
    CAST(NULL AS VARCHAR) AS InvoiceDetailGrain,
    d.row_id AS InvoiceDetailId,
    d.issued_second AS InvoiceDetailLastUpdated,
    d.invoice AS InvoiceId,
    d.issued_second AS InvoiceIssueDate,
    CASE s.status WHEN 'void' THEN 'Voided' ELSE 'Issued' END AS InvoiceIssueStatus,
    d.issuer AS InvoiceIssuerName,
    d.issued_second AS PaymentDueDate,
    'Due at issue, from credit, balance and the saved card' AS PaymentTerms,
    coalesce(o.invoice, d.invoice) AS ReferenceInvoiceId,
    CAST(f.total_minor * d.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS x_InvoiceTotal,
    CAST(f.brought_forward_minor * d.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS x_BroughtForward,
    CAST(f.credit_minor * d.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS x_CreditApplied,
    CAST(f.balance_minor * d.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS x_BalanceApplied,
    CAST(f.card_minor * d.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS x_CardCharged,
    CAST(f.amount_due_minor * d.thousandths AS DECIMAL(35, 0)) * CAST(0.001 AS DECIMAL(3, 3)) AS x_AmountDue,
    f.status AS x_InvoiceStatus
FROM details AS d
JOIN invoice_status AS s ON s.invoice = d.invoice
LEFT JOIN settled AS f ON f.invoice = d.invoice AND d.is_first
LEFT JOIN invoices AS o ON o.month = d.month AND o.account_id = d.account_id
ORDER BY d.invoice, d.line, d.category DESC
