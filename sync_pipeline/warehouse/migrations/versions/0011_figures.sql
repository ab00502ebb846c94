-- The tables and views of migration 0011; a statement ends with a semicolon at the end of a line.
CREATE TABLE figure_settings (
    tenant_id TEXT NOT NULL,
    date DATE NOT NULL,
    outbound_fee NUMERIC(14, 2) NOT NULL,
    return_fee NUMERIC(14, 2) NOT NULL,
    cod_percent NUMERIC(7, 4) NOT NULL,
    lost_share NUMERIC(5, 4) NOT NULL,
    ad_tax_percent NUMERIC(7, 4) NOT NULL,
    return_rate NUMERIC(5, 4) NOT NULL,
    CONSTRAINT figure_settings_pkey PRIMARY KEY (tenant_id, date),
    CONSTRAINT figure_settings_tenant_id_fkey FOREIGN KEY(tenant_id) REFERENCES tenants (tenant_id) ON DELETE CASCADE
);
COMMENT ON COLUMN figure_settings.date IS
    'the day whose figures were computed with these settings';
COMMENT ON COLUMN figure_settings.outbound_fee IS
    'shipping, fulfilment and packaging of one order';
COMMENT ON COLUMN figure_settings.return_fee IS
    'per returned order';
COMMENT ON COLUMN figure_settings.cod_percent IS
    'of collected cash on delivery';
COMMENT ON COLUMN figure_settings.lost_share IS
    'of the COGS of returned orders; 1 is all';
COMMENT ON COLUMN figure_settings.ad_tax_percent IS
    'VAT and tax on ads, of ad_cost';
COMMENT ON COLUMN figure_settings.return_rate IS
    'assumed by margin_at_return_rate; 1 is all';
CREATE TABLE delivery_rates (
    tenant_id TEXT NOT NULL,
    shop_id TEXT NOT NULL,
    as_of DATE NOT NULL,
    delivery_rate NUMERIC(5, 4) NOT NULL,
    source TEXT NOT NULL,
    settled_days INTEGER NOT NULL,
    settled_orders BIGINT NOT NULL,
    delivered_orders BIGINT NOT NULL,
    CONSTRAINT delivery_rates_pkey PRIMARY KEY (tenant_id, shop_id, as_of),
    CONSTRAINT delivery_rates_tenant_id_fkey FOREIGN KEY(tenant_id) REFERENCES tenants (tenant_id) ON DELETE CASCADE
);
COMMENT ON COLUMN delivery_rates.as_of IS
    'the day on which the rate was computed';
COMMENT ON COLUMN delivery_rates.delivery_rate IS
    'p: delivered orders among settled ones of the shop''s last 60 settled days';
COMMENT ON COLUMN delivery_rates.source IS
    'shop; tenant where the shop has no settled day: the rate of all shops together; return_rate where no shop has one: 1 - the return_rate of the tenant file';
COMMENT ON COLUMN delivery_rates.settled_days IS
    'days that the rate is taken of';
CREATE TABLE ad_performance (
    tenant_id TEXT NOT NULL,
    date DATE NOT NULL,
    ad_id TEXT,
    shop_id TEXT,
    mapping TEXT,
    account_id TEXT,
    campaign_id TEXT,
    campaign_name TEXT,
    adset_id TEXT,
    adset_name TEXT,
    ad_name TEXT,
    marketing_associate TEXT,
    matched_by TEXT,
    spend NUMERIC(14, 2) NOT NULL,
    ad_cost NUMERIC(14, 2) NOT NULL,
    ad_taxes NUMERIC(14, 2),
    impressions BIGINT NOT NULL,
    clicks BIGINT NOT NULL,
    link_clicks BIGINT NOT NULL,
    leads BIGINT NOT NULL,
    orders BIGINT NOT NULL,
    quantity NUMERIC NOT NULL,
    uncosted_quantity NUMERIC NOT NULL,
    revenue NUMERIC(14, 2) NOT NULL,
    cod NUMERIC(14, 2) NOT NULL,
    cogs NUMERIC(14, 2) NOT NULL,
    order_fees NUMERIC(14, 2),
    cod_fees NUMERIC(14, 2),
    unconfirmed_orders BIGINT NOT NULL,
    unconfirmed_amount NUMERIC(14, 2) NOT NULL,
    unconfirmed_cod NUMERIC(14, 2) NOT NULL,
    unconfirmed_cogs NUMERIC(14, 2) NOT NULL,
    restocking_orders BIGINT NOT NULL,
    restocking_amount NUMERIC(14, 2) NOT NULL,
    restocking_cod NUMERIC(14, 2) NOT NULL,
    restocking_cogs NUMERIC(14, 2) NOT NULL,
    confirmed_orders BIGINT NOT NULL,
    confirmed_amount NUMERIC(14, 2) NOT NULL,
    confirmed_cod NUMERIC(14, 2) NOT NULL,
    confirmed_cogs NUMERIC(14, 2) NOT NULL,
    waiting_pickup_orders BIGINT NOT NULL,
    waiting_pickup_amount NUMERIC(14, 2) NOT NULL,
    waiting_pickup_cod NUMERIC(14, 2) NOT NULL,
    waiting_pickup_cogs NUMERIC(14, 2) NOT NULL,
    shipped_orders BIGINT NOT NULL,
    shipped_amount NUMERIC(14, 2) NOT NULL,
    shipped_cod NUMERIC(14, 2) NOT NULL,
    shipped_cogs NUMERIC(14, 2) NOT NULL,
    delivered_orders BIGINT NOT NULL,
    delivered_amount NUMERIC(14, 2) NOT NULL,
    delivered_cod NUMERIC(14, 2) NOT NULL,
    delivered_cogs NUMERIC(14, 2) NOT NULL,
    partly_returned_orders BIGINT NOT NULL,
    partly_returned_amount NUMERIC(14, 2) NOT NULL,
    partly_returned_cod NUMERIC(14, 2) NOT NULL,
    partly_returned_cogs NUMERIC(14, 2) NOT NULL,
    returning_orders BIGINT NOT NULL,
    returning_amount NUMERIC(14, 2) NOT NULL,
    returning_cod NUMERIC(14, 2) NOT NULL,
    returning_cogs NUMERIC(14, 2) NOT NULL,
    returned_orders BIGINT NOT NULL,
    returned_amount NUMERIC(14, 2) NOT NULL,
    returned_cod NUMERIC(14, 2) NOT NULL,
    returned_cogs NUMERIC(14, 2) NOT NULL,
    cancelled_orders BIGINT NOT NULL,
    cancelled_amount NUMERIC(14, 2) NOT NULL,
    cancelled_cod NUMERIC(14, 2) NOT NULL,
    cancelled_cogs NUMERIC(14, 2) NOT NULL,
    excluded_orders BIGINT NOT NULL,
    excluded_amount NUMERIC(14, 2) NOT NULL,
    excluded_cod NUMERIC(14, 2) NOT NULL,
    excluded_cogs NUMERIC(14, 2) NOT NULL,
    other_orders BIGINT NOT NULL,
    other_amount NUMERIC(14, 2) NOT NULL,
    other_cod NUMERIC(14, 2) NOT NULL,
    other_cogs NUMERIC(14, 2) NOT NULL,
    realised_outbound_fees NUMERIC(14, 2),
    realised_cod_fees NUMERIC(14, 2),
    return_fees NUMERIC(14, 2),
    lost_goods NUMERIC(14, 2),
    open_margin NUMERIC(14, 2),
    orders_margin_at_return_rate NUMERIC(14, 2),
    realised_margin NUMERIC(18, 2) GENERATED ALWAYS AS (delivered_amount + partly_returned_amount - delivered_cogs -
        partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost -
        ad_taxes) STORED,
    projected_margin NUMERIC(18, 2) GENERATED ALWAYS AS (delivered_amount + partly_returned_amount - delivered_cogs -
        partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost -
        ad_taxes + open_margin) STORED,
    margin_at_return_rate NUMERIC(18, 2) GENERATED ALWAYS AS (orders_margin_at_return_rate - ad_cost - ad_taxes)
        STORED,
    roas NUMERIC(18, 4) GENERATED ALWAYS AS (round((revenue)::numeric / NULLIF(ad_cost, 0), 4)) STORED,
    delivered_roas NUMERIC(18, 4) GENERATED ALWAYS AS (round((delivered_amount + partly_returned_amount)::numeric /
        NULLIF(ad_cost + ad_taxes, 0), 4)) STORED,
    break_even_roas NUMERIC(18, 4) GENERATED ALWAYS AS (round((delivered_amount + partly_returned_amount)::numeric /
        NULLIF(greatest(delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs -
        realised_outbound_fees - realised_cod_fees - return_fees - lost_goods, 0), 0), 4)) STORED,
    cost_per_order NUMERIC(18, 2) GENERATED ALWAYS AS (round((ad_cost)::numeric / NULLIF(orders, 0), 2)) STORED,
    cost_per_delivered_order NUMERIC(18, 2) GENERATED ALWAYS AS (round((ad_cost + ad_taxes)::numeric /
        NULLIF(delivered_orders + partly_returned_orders, 0), 2)) STORED,
    delivery_rate NUMERIC(18, 4) GENERATED ALWAYS AS (round((delivered_orders + partly_returned_orders)::numeric /
        NULLIF(delivered_orders + partly_returned_orders + returned_orders + cancelled_orders, 0), 4)) STORED,
    return_rate NUMERIC(18, 4) GENERATED ALWAYS AS (round((returned_orders)::numeric / NULLIF(delivered_orders +
        partly_returned_orders + returned_orders + cancelled_orders, 0), 4)) STORED,
    delivery_rate_of_sent NUMERIC(18, 4) GENERATED ALWAYS AS (round((delivered_orders)::numeric /
        NULLIF(shipped_orders + delivered_orders + partly_returned_orders + returning_orders + returned_orders, 0),
        4)) STORED,
    return_rate_of_sent NUMERIC(18, 4) GENERATED ALWAYS AS (round((partly_returned_orders + returning_orders +
        returned_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders +
        returning_orders + returned_orders, 0), 4)) STORED,
    rts_rate NUMERIC(18, 4) GENERATED ALWAYS AS (round((returning_orders + returned_orders)::numeric /
        NULLIF(delivered_orders + partly_returned_orders + returning_orders + returned_orders, 0), 4)) STORED,
    cancellation_rate NUMERIC(18, 4) GENERATED ALWAYS AS (round((cancelled_orders)::numeric / NULLIF(orders, 0), 4))
        STORED,
    settled_share NUMERIC(18, 4) GENERATED ALWAYS AS (round((delivered_orders + partly_returned_orders +
        returned_orders + cancelled_orders)::numeric / NULLIF(orders, 0), 4)) STORED,
    collected NUMERIC(18, 2) GENERATED ALWAYS AS (delivered_cod) STORED,
    net_cogs NUMERIC(18, 2) GENERATED ALWAYS AS (cogs - partly_returned_cogs - returning_cogs - returned_cogs -
        cancelled_cogs) STORED,
    net_revenue NUMERIC(18, 2) GENERATED ALWAYS AS (revenue - partly_returned_amount - returning_amount -
        returned_amount - cancelled_amount) STORED,
    contribution_margin NUMERIC(18, 2) GENERATED ALWAYS AS (revenue - partly_returned_amount - returning_amount -
        returned_amount - cancelled_amount - (cogs - partly_returned_cogs - returning_cogs - returned_cogs -
        cancelled_cogs) - order_fees - cod_fees - ad_cost) STORED,
    projection_date DATE,
    rules TEXT,
    CONSTRAINT ad_performance_tenant_id_fkey FOREIGN KEY(tenant_id) REFERENCES tenants (tenant_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX ad_performance_ad_key ON ad_performance (tenant_id, date, ad_id) WHERE ad_id IS NOT NULL;
CREATE UNIQUE INDEX ad_performance_unmatched_key ON ad_performance (tenant_id, date, shop_id, mapping) NULLS NOT
    DISTINCT WHERE ad_id IS NULL;
COMMENT ON COLUMN ad_performance.ad_id IS
    'null: orders that matched no ad';
COMMENT ON COLUMN ad_performance.shop_id IS
    'of orders that matched no ad';
COMMENT ON COLUMN ad_performance.mapping IS
    'the campaign''s; of orders without ad their own';
COMMENT ON COLUMN ad_performance.matched_by IS
    'how orders were matched: the names of the fields, joined by +';
COMMENT ON COLUMN ad_performance.spend IS
    'sum of spend; as Meta reports it';
COMMENT ON COLUMN ad_performance.ad_cost IS
    'sum of ad_cost; spend times the account''s spend_multiplier';
COMMENT ON COLUMN ad_performance.ad_taxes IS
    'sum of ad_taxes; ad_cost times the VAT and tax on ads, in ad_taxes of the tenant file';
COMMENT ON COLUMN ad_performance.impressions IS
    'sum of impressions';
COMMENT ON COLUMN ad_performance.clicks IS
    'sum of clicks; all clicks';
COMMENT ON COLUMN ad_performance.link_clicks IS
    'sum of link_clicks';
COMMENT ON COLUMN ad_performance.leads IS
    'sum of leads; of the tenant''s lead_action_types';
COMMENT ON COLUMN ad_performance.orders IS
    'number of counted orders; of every status group but excluded';
COMMENT ON COLUMN ad_performance.quantity IS
    'sum of total_quantity over counted orders';
COMMENT ON COLUMN ad_performance.uncosted_quantity IS
    'sum of uncosted_quantity over counted orders; pieces for which no cost was found';
COMMENT ON COLUMN ad_performance.revenue IS
    'sum of total over counted orders; whatever became of the orders';
COMMENT ON COLUMN ad_performance.cod IS
    'sum of cod over counted orders; cash on delivery to collect, whatever became of the orders';
COMMENT ON COLUMN ad_performance.cogs IS
    'sum of cogs over counted orders';
COMMENT ON COLUMN ad_performance.order_fees IS
    'sum of outbound_fee over counted orders that are not cancelled; shipping, fulfilment and packaging; part of contribution_margin';
COMMENT ON COLUMN ad_performance.cod_fees IS
    'sum of cod_fee over delivered orders; percentage of what was collected; part of contribution_margin';
COMMENT ON COLUMN ad_performance.unconfirmed_orders IS
    'number of unconfirmed orders';
COMMENT ON COLUMN ad_performance.unconfirmed_amount IS
    'sum of total over unconfirmed orders';
COMMENT ON COLUMN ad_performance.unconfirmed_cod IS
    'sum of cod over unconfirmed orders';
COMMENT ON COLUMN ad_performance.unconfirmed_cogs IS
    'sum of cogs over unconfirmed orders';
COMMENT ON COLUMN ad_performance.restocking_orders IS
    'number of restocking orders';
COMMENT ON COLUMN ad_performance.restocking_amount IS
    'sum of total over restocking orders';
COMMENT ON COLUMN ad_performance.restocking_cod IS
    'sum of cod over restocking orders';
COMMENT ON COLUMN ad_performance.restocking_cogs IS
    'sum of cogs over restocking orders';
COMMENT ON COLUMN ad_performance.confirmed_orders IS
    'number of confirmed orders';
COMMENT ON COLUMN ad_performance.confirmed_amount IS
    'sum of total over confirmed orders';
COMMENT ON COLUMN ad_performance.confirmed_cod IS
    'sum of cod over confirmed orders';
COMMENT ON COLUMN ad_performance.confirmed_cogs IS
    'sum of cogs over confirmed orders';
COMMENT ON COLUMN ad_performance.waiting_pickup_orders IS
    'number of waiting pickup orders';
COMMENT ON COLUMN ad_performance.waiting_pickup_amount IS
    'sum of total over waiting pickup orders';
COMMENT ON COLUMN ad_performance.waiting_pickup_cod IS
    'sum of cod over waiting pickup orders';
COMMENT ON COLUMN ad_performance.waiting_pickup_cogs IS
    'sum of cogs over waiting pickup orders';
COMMENT ON COLUMN ad_performance.shipped_orders IS
    'number of shipped orders';
COMMENT ON COLUMN ad_performance.shipped_amount IS
    'sum of total over shipped orders';
COMMENT ON COLUMN ad_performance.shipped_cod IS
    'sum of cod over shipped orders';
COMMENT ON COLUMN ad_performance.shipped_cogs IS
    'sum of cogs over shipped orders';
COMMENT ON COLUMN ad_performance.delivered_orders IS
    'number of delivered orders';
COMMENT ON COLUMN ad_performance.delivered_amount IS
    'sum of total over delivered orders';
COMMENT ON COLUMN ad_performance.delivered_cod IS
    'sum of cod over delivered orders';
COMMENT ON COLUMN ad_performance.delivered_cogs IS
    'sum of cogs over delivered orders';
COMMENT ON COLUMN ad_performance.partly_returned_orders IS
    'number of partly returned orders';
COMMENT ON COLUMN ad_performance.partly_returned_amount IS
    'sum of total over partly returned orders';
COMMENT ON COLUMN ad_performance.partly_returned_cod IS
    'sum of cod over partly returned orders';
COMMENT ON COLUMN ad_performance.partly_returned_cogs IS
    'sum of cogs over partly returned orders';
COMMENT ON COLUMN ad_performance.returning_orders IS
    'number of returning orders';
COMMENT ON COLUMN ad_performance.returning_amount IS
    'sum of total over returning orders';
COMMENT ON COLUMN ad_performance.returning_cod IS
    'sum of cod over returning orders';
COMMENT ON COLUMN ad_performance.returning_cogs IS
    'sum of cogs over returning orders';
COMMENT ON COLUMN ad_performance.returned_orders IS
    'number of returned orders';
COMMENT ON COLUMN ad_performance.returned_amount IS
    'sum of total over returned orders';
COMMENT ON COLUMN ad_performance.returned_cod IS
    'sum of cod over returned orders';
COMMENT ON COLUMN ad_performance.returned_cogs IS
    'sum of cogs over returned orders';
COMMENT ON COLUMN ad_performance.cancelled_orders IS
    'number of cancelled orders';
COMMENT ON COLUMN ad_performance.cancelled_amount IS
    'sum of total over cancelled orders';
COMMENT ON COLUMN ad_performance.cancelled_cod IS
    'sum of cod over cancelled orders';
COMMENT ON COLUMN ad_performance.cancelled_cogs IS
    'sum of cogs over cancelled orders';
COMMENT ON COLUMN ad_performance.excluded_orders IS
    'number of excluded orders';
COMMENT ON COLUMN ad_performance.excluded_amount IS
    'sum of total over excluded orders';
COMMENT ON COLUMN ad_performance.excluded_cod IS
    'sum of cod over excluded orders';
COMMENT ON COLUMN ad_performance.excluded_cogs IS
    'sum of cogs over excluded orders';
COMMENT ON COLUMN ad_performance.other_orders IS
    'number of other orders';
COMMENT ON COLUMN ad_performance.other_amount IS
    'sum of total over other orders';
COMMENT ON COLUMN ad_performance.other_cod IS
    'sum of cod over other orders';
COMMENT ON COLUMN ad_performance.other_cogs IS
    'sum of cogs over other orders';
COMMENT ON COLUMN ad_performance.realised_outbound_fees IS
    'sum of outbound_fee over delivered, partly returned and returned orders; shipping, fulfilment and packaging';
COMMENT ON COLUMN ad_performance.realised_cod_fees IS
    'sum of cod_fee over delivered and partly returned orders; percentage of the cash collected';
COMMENT ON COLUMN ad_performance.return_fees IS
    'sum of return_fee over returned orders';
COMMENT ON COLUMN ad_performance.lost_goods IS
    'sum of lost_goods over returned orders; COGS times the lost_share of the tenant file';
COMMENT ON COLUMN ad_performance.open_margin IS
    'sum of p * (total - cogs - cod_fee) - (1 - p) * (return_fee + lost_goods) - outbound_fee over open orders; expected margin of open orders; p is the shop''s delivery_rate in delivery_rates on projection_date';
COMMENT ON COLUMN ad_performance.orders_margin_at_return_rate IS
    'sum of (1 - r) * (total - cogs - cod_fee) - r * (return_fee + lost_goods) - outbound_fee over counted orders that are not cancelled; margin before ads if the share r of all orders is returned; r is the return_rate of the tenant file';
COMMENT ON COLUMN ad_performance.realised_margin IS
    'delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost - ad_taxes; margin of delivered and returned orders, less all ad cost with taxes';
COMMENT ON COLUMN ad_performance.projected_margin IS
    'delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost - ad_taxes + open_margin; realised margin and the expected margin of open orders';
COMMENT ON COLUMN ad_performance.margin_at_return_rate IS
    'orders_margin_at_return_rate - ad_cost - ad_taxes; margin if the tenant''s return_rate applied to all orders that are not cancelled';
COMMENT ON COLUMN ad_performance.roas IS
    'revenue / ad_cost; revenue of all orders per ad cost';
COMMENT ON COLUMN ad_performance.delivered_roas IS
    '(delivered_amount + partly_returned_amount) / (ad_cost + ad_taxes); amount of delivered orders per ad cost with taxes';
COMMENT ON COLUMN ad_performance.break_even_roas IS
    '(delivered_amount + partly_returned_amount) / greatest(delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods, 0); the delivered_roas at which realised_margin is 0; null where orders lose money before ads';
COMMENT ON COLUMN ad_performance.cost_per_order IS
    'ad_cost / orders';
COMMENT ON COLUMN ad_performance.cost_per_delivered_order IS
    '(ad_cost + ad_taxes) / (delivered_orders + partly_returned_orders); ad cost with taxes per delivered order';
COMMENT ON COLUMN ad_performance.delivery_rate IS
    '(delivered_orders + partly_returned_orders) / (delivered_orders + partly_returned_orders + returned_orders + cancelled_orders); delivered orders among settled orders';
COMMENT ON COLUMN ad_performance.return_rate IS
    'returned_orders / (delivered_orders + partly_returned_orders + returned_orders + cancelled_orders); returned orders among settled orders';
COMMENT ON COLUMN ad_performance.delivery_rate_of_sent IS
    'delivered_orders / (shipped_orders + delivered_orders + partly_returned_orders + returning_orders + returned_orders); fully delivered orders among sent ones, parcels in transit included; too low for recent days';
COMMENT ON COLUMN ad_performance.return_rate_of_sent IS
    '(partly_returned_orders + returning_orders + returned_orders) / (shipped_orders + delivered_orders + partly_returned_orders + returning_orders + returned_orders); returning, returned and partly returned orders among sent ones, parcels in transit included; too low for recent days';
COMMENT ON COLUMN ad_performance.rts_rate IS
    '(returning_orders + returned_orders) / (delivered_orders + partly_returned_orders + returning_orders + returned_orders); returning and returned orders among these and delivered ones';
COMMENT ON COLUMN ad_performance.cancellation_rate IS
    'cancelled_orders / orders; cancelled orders among all counted ones';
COMMENT ON COLUMN ad_performance.settled_share IS
    '(delivered_orders + partly_returned_orders + returned_orders + cancelled_orders) / orders; settled orders among all counted ones';
COMMENT ON COLUMN ad_performance.collected IS
    'delivered_cod; deprecated, to be removed in the next version: delivered_cod';
COMMENT ON COLUMN ad_performance.net_cogs IS
    'cogs - partly_returned_cogs - returning_cogs - returned_cogs - cancelled_cogs; deprecated, to be removed in the next version';
COMMENT ON COLUMN ad_performance.net_revenue IS
    'revenue - partly_returned_amount - returning_amount - returned_amount - cancelled_amount; deprecated, to be removed in the next version';
COMMENT ON COLUMN ad_performance.contribution_margin IS
    'revenue - partly_returned_amount - returning_amount - returned_amount - cancelled_amount - (cogs - partly_returned_cogs - returning_cogs - returned_cogs - cancelled_cogs) - order_fees - cod_fees - ad_cost; deprecated, to be removed in the next version: it sets the revenue of open orders against fees of delivered ones; see realised_margin and projected_margin';
COMMENT ON COLUMN ad_performance.projection_date IS
    'as_of of the delivery_rates that open_margin was computed with, the latest';
COMMENT ON COLUMN ad_performance.rules IS
    'fingerprint of rules and settings of the row''s day; null: the next run recomputes it';
CREATE OR REPLACE VIEW order_attribution WITH (security_invoker = true) AS
SELECT
    o.tenant_id, o.shop_id, o.pos_order_id, o.date_local AS date, matched.ad_id, matched.matched_by, o.mapping,
    o.status,
    CASE WHEN o.status IN (0, 17) THEN 'unconfirmed' WHEN o.status IN (11) THEN 'restocking' WHEN o.status IN (1, 20)
        THEN 'confirmed' WHEN o.status IN (8, 9, 12, 13) THEN 'waiting_pickup' WHEN o.status IN (2) THEN 'shipped'
        WHEN o.status IN (3, 16) THEN 'delivered' WHEN o.status IN (15) THEN 'partly_returned' WHEN o.status IN (4)
        THEN 'returning' WHEN o.status IN (5) THEN 'returned' WHEN o.status IN (6, -1) THEN 'cancelled' WHEN o.status
        IN (7, -2) THEN 'excluded' ELSE 'other' END AS status_group,
    o.total, o.cod, o.cogs, o.total_quantity, o.uncosted_quantity
FROM pos_orders AS o
LEFT JOIN LATERAL (
    SELECT candidate.ad_id, candidate.matched_by
    FROM (
        SELECT 1 AS rank, 'p_utm_content' AS matched_by, o.utm_ad_id AS ad_id WHERE o.ad_candidates IS NULL
        UNION ALL SELECT 2, 'ad_id', o.ad_id WHERE o.ad_candidates IS NULL
        UNION ALL SELECT named.rank, named.value ->> 'field', named.value ->> 'ad_id'
        FROM jsonb_array_elements(o.ad_candidates) WITH ORDINALITY AS named (value, rank)
    ) AS candidate
    WHERE EXISTS (
        SELECT FROM meta_ad_insights AS i WHERE i.tenant_id = o.tenant_id AND i.ad_id = candidate.ad_id
    )
    ORDER BY candidate.rank LIMIT 1
) AS matched ON true;
CREATE OR REPLACE VIEW ad_performance_by_associate WITH (security_invoker = true) AS SELECT tenant_id, date,
    marketing_associate, spend, ad_cost, ad_taxes, impressions, clicks, link_clicks, leads, orders, quantity,
    uncosted_quantity, revenue, cod, cogs, order_fees, cod_fees, unconfirmed_orders, unconfirmed_amount,
    unconfirmed_cod, unconfirmed_cogs, restocking_orders, restocking_amount, restocking_cod, restocking_cogs,
    confirmed_orders, confirmed_amount, confirmed_cod, confirmed_cogs, waiting_pickup_orders, waiting_pickup_amount,
    waiting_pickup_cod, waiting_pickup_cogs, shipped_orders, shipped_amount, shipped_cod, shipped_cogs,
    delivered_orders, delivered_amount, delivered_cod, delivered_cogs, partly_returned_orders,
    partly_returned_amount, partly_returned_cod, partly_returned_cogs, returning_orders, returning_amount,
    returning_cod, returning_cogs, returned_orders, returned_amount, returned_cod, returned_cogs, cancelled_orders,
    cancelled_amount, cancelled_cod, cancelled_cogs, excluded_orders, excluded_amount, excluded_cod, excluded_cogs,
    other_orders, other_amount, other_cod, other_cogs, realised_outbound_fees, realised_cod_fees, return_fees,
    lost_goods, open_margin, orders_margin_at_return_rate, delivered_amount + partly_returned_amount - delivered_cogs
    - partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost -
    ad_taxes AS realised_margin, delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs -
    realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost - ad_taxes + open_margin AS
    projected_margin, orders_margin_at_return_rate - ad_cost - ad_taxes AS margin_at_return_rate,
    round((revenue)::numeric / NULLIF(ad_cost, 0), 4) AS roas, round((delivered_amount +
    partly_returned_amount)::numeric / NULLIF(ad_cost + ad_taxes, 0), 4) AS delivered_roas, round((delivered_amount +
    partly_returned_amount)::numeric / NULLIF(greatest(delivered_amount + partly_returned_amount - delivered_cogs -
    partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods, 0), 0), 4) AS
    break_even_roas, round((ad_cost)::numeric / NULLIF(orders, 0), 2) AS cost_per_order, round((ad_cost +
    ad_taxes)::numeric / NULLIF(delivered_orders + partly_returned_orders, 0), 2) AS cost_per_delivered_order,
    round((delivered_orders + partly_returned_orders)::numeric / NULLIF(delivered_orders + partly_returned_orders +
    returned_orders + cancelled_orders, 0), 4) AS delivery_rate, round((returned_orders)::numeric /
    NULLIF(delivered_orders + partly_returned_orders + returned_orders + cancelled_orders, 0), 4) AS return_rate,
    round((delivered_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders +
    returning_orders + returned_orders, 0), 4) AS delivery_rate_of_sent, round((partly_returned_orders +
    returning_orders + returned_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders
    + returning_orders + returned_orders, 0), 4) AS return_rate_of_sent, round((returning_orders +
    returned_orders)::numeric / NULLIF(delivered_orders + partly_returned_orders + returning_orders +
    returned_orders, 0), 4) AS rts_rate, round((cancelled_orders)::numeric / NULLIF(orders, 0), 4) AS
    cancellation_rate, round((delivered_orders + partly_returned_orders + returned_orders +
    cancelled_orders)::numeric / NULLIF(orders, 0), 4) AS settled_share, delivered_cod AS collected, cogs -
    partly_returned_cogs - returning_cogs - returned_cogs - cancelled_cogs AS net_cogs, revenue -
    partly_returned_amount - returning_amount - returned_amount - cancelled_amount AS net_revenue, revenue -
    partly_returned_amount - returning_amount - returned_amount - cancelled_amount - (cogs - partly_returned_cogs -
    returning_cogs - returned_cogs - cancelled_cogs) - order_fees - cod_fees - ad_cost AS contribution_margin FROM
    (SELECT tenant_id, date, marketing_associate, sum(spend) AS spend, sum(ad_cost) AS ad_cost, CASE WHEN count(*) =
    count(ad_taxes) THEN sum(ad_taxes) END AS ad_taxes, sum(impressions) AS impressions, sum(clicks) AS clicks,
    sum(link_clicks) AS link_clicks, sum(leads) AS leads, sum(orders) AS orders, sum(quantity) AS quantity,
    sum(uncosted_quantity) AS uncosted_quantity, sum(revenue) AS revenue, sum(cod) AS cod, sum(cogs) AS cogs, CASE
    WHEN count(*) = count(order_fees) THEN sum(order_fees) END AS order_fees, CASE WHEN count(*) = count(cod_fees)
    THEN sum(cod_fees) END AS cod_fees, sum(unconfirmed_orders) AS unconfirmed_orders, sum(unconfirmed_amount) AS
    unconfirmed_amount, sum(unconfirmed_cod) AS unconfirmed_cod, sum(unconfirmed_cogs) AS unconfirmed_cogs,
    sum(restocking_orders) AS restocking_orders, sum(restocking_amount) AS restocking_amount, sum(restocking_cod) AS
    restocking_cod, sum(restocking_cogs) AS restocking_cogs, sum(confirmed_orders) AS confirmed_orders,
    sum(confirmed_amount) AS confirmed_amount, sum(confirmed_cod) AS confirmed_cod, sum(confirmed_cogs) AS
    confirmed_cogs, sum(waiting_pickup_orders) AS waiting_pickup_orders, sum(waiting_pickup_amount) AS
    waiting_pickup_amount, sum(waiting_pickup_cod) AS waiting_pickup_cod, sum(waiting_pickup_cogs) AS
    waiting_pickup_cogs, sum(shipped_orders) AS shipped_orders, sum(shipped_amount) AS shipped_amount,
    sum(shipped_cod) AS shipped_cod, sum(shipped_cogs) AS shipped_cogs, sum(delivered_orders) AS delivered_orders,
    sum(delivered_amount) AS delivered_amount, sum(delivered_cod) AS delivered_cod, sum(delivered_cogs) AS
    delivered_cogs, sum(partly_returned_orders) AS partly_returned_orders, sum(partly_returned_amount) AS
    partly_returned_amount, sum(partly_returned_cod) AS partly_returned_cod, sum(partly_returned_cogs) AS
    partly_returned_cogs, sum(returning_orders) AS returning_orders, sum(returning_amount) AS returning_amount,
    sum(returning_cod) AS returning_cod, sum(returning_cogs) AS returning_cogs, sum(returned_orders) AS
    returned_orders, sum(returned_amount) AS returned_amount, sum(returned_cod) AS returned_cod, sum(returned_cogs)
    AS returned_cogs, sum(cancelled_orders) AS cancelled_orders, sum(cancelled_amount) AS cancelled_amount,
    sum(cancelled_cod) AS cancelled_cod, sum(cancelled_cogs) AS cancelled_cogs, sum(excluded_orders) AS
    excluded_orders, sum(excluded_amount) AS excluded_amount, sum(excluded_cod) AS excluded_cod, sum(excluded_cogs)
    AS excluded_cogs, sum(other_orders) AS other_orders, sum(other_amount) AS other_amount, sum(other_cod) AS
    other_cod, sum(other_cogs) AS other_cogs, CASE WHEN count(*) = count(realised_outbound_fees) THEN
    sum(realised_outbound_fees) END AS realised_outbound_fees, CASE WHEN count(*) = count(realised_cod_fees) THEN
    sum(realised_cod_fees) END AS realised_cod_fees, CASE WHEN count(*) = count(return_fees) THEN sum(return_fees)
    END AS return_fees, CASE WHEN count(*) = count(lost_goods) THEN sum(lost_goods) END AS lost_goods, CASE WHEN
    count(*) = count(open_margin) THEN sum(open_margin) END AS open_margin, CASE WHEN count(*) =
    count(orders_margin_at_return_rate) THEN sum(orders_margin_at_return_rate) END AS orders_margin_at_return_rate
    FROM ad_performance GROUP BY tenant_id, date, marketing_associate) AS summed;
CREATE OR REPLACE VIEW ad_performance_by_campaign WITH (security_invoker = true) AS SELECT tenant_id, date,
    campaign_id, campaign_name, spend, ad_cost, ad_taxes, impressions, clicks, link_clicks, leads, orders, quantity,
    uncosted_quantity, revenue, cod, cogs, order_fees, cod_fees, unconfirmed_orders, unconfirmed_amount,
    unconfirmed_cod, unconfirmed_cogs, restocking_orders, restocking_amount, restocking_cod, restocking_cogs,
    confirmed_orders, confirmed_amount, confirmed_cod, confirmed_cogs, waiting_pickup_orders, waiting_pickup_amount,
    waiting_pickup_cod, waiting_pickup_cogs, shipped_orders, shipped_amount, shipped_cod, shipped_cogs,
    delivered_orders, delivered_amount, delivered_cod, delivered_cogs, partly_returned_orders,
    partly_returned_amount, partly_returned_cod, partly_returned_cogs, returning_orders, returning_amount,
    returning_cod, returning_cogs, returned_orders, returned_amount, returned_cod, returned_cogs, cancelled_orders,
    cancelled_amount, cancelled_cod, cancelled_cogs, excluded_orders, excluded_amount, excluded_cod, excluded_cogs,
    other_orders, other_amount, other_cod, other_cogs, realised_outbound_fees, realised_cod_fees, return_fees,
    lost_goods, open_margin, orders_margin_at_return_rate, delivered_amount + partly_returned_amount - delivered_cogs
    - partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost -
    ad_taxes AS realised_margin, delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs -
    realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost - ad_taxes + open_margin AS
    projected_margin, orders_margin_at_return_rate - ad_cost - ad_taxes AS margin_at_return_rate,
    round((revenue)::numeric / NULLIF(ad_cost, 0), 4) AS roas, round((delivered_amount +
    partly_returned_amount)::numeric / NULLIF(ad_cost + ad_taxes, 0), 4) AS delivered_roas, round((delivered_amount +
    partly_returned_amount)::numeric / NULLIF(greatest(delivered_amount + partly_returned_amount - delivered_cogs -
    partly_returned_cogs - realised_outbound_fees - realised_cod_fees - return_fees - lost_goods, 0), 0), 4) AS
    break_even_roas, round((ad_cost)::numeric / NULLIF(orders, 0), 2) AS cost_per_order, round((ad_cost +
    ad_taxes)::numeric / NULLIF(delivered_orders + partly_returned_orders, 0), 2) AS cost_per_delivered_order,
    round((delivered_orders + partly_returned_orders)::numeric / NULLIF(delivered_orders + partly_returned_orders +
    returned_orders + cancelled_orders, 0), 4) AS delivery_rate, round((returned_orders)::numeric /
    NULLIF(delivered_orders + partly_returned_orders + returned_orders + cancelled_orders, 0), 4) AS return_rate,
    round((delivered_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders +
    returning_orders + returned_orders, 0), 4) AS delivery_rate_of_sent, round((partly_returned_orders +
    returning_orders + returned_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders
    + returning_orders + returned_orders, 0), 4) AS return_rate_of_sent, round((returning_orders +
    returned_orders)::numeric / NULLIF(delivered_orders + partly_returned_orders + returning_orders +
    returned_orders, 0), 4) AS rts_rate, round((cancelled_orders)::numeric / NULLIF(orders, 0), 4) AS
    cancellation_rate, round((delivered_orders + partly_returned_orders + returned_orders +
    cancelled_orders)::numeric / NULLIF(orders, 0), 4) AS settled_share, delivered_cod AS collected, cogs -
    partly_returned_cogs - returning_cogs - returned_cogs - cancelled_cogs AS net_cogs, revenue -
    partly_returned_amount - returning_amount - returned_amount - cancelled_amount AS net_revenue, revenue -
    partly_returned_amount - returning_amount - returned_amount - cancelled_amount - (cogs - partly_returned_cogs -
    returning_cogs - returned_cogs - cancelled_cogs) - order_fees - cod_fees - ad_cost AS contribution_margin FROM
    (SELECT tenant_id, date, campaign_id, max(campaign_name) AS campaign_name, sum(spend) AS spend, sum(ad_cost) AS
    ad_cost, CASE WHEN count(*) = count(ad_taxes) THEN sum(ad_taxes) END AS ad_taxes, sum(impressions) AS
    impressions, sum(clicks) AS clicks, sum(link_clicks) AS link_clicks, sum(leads) AS leads, sum(orders) AS orders,
    sum(quantity) AS quantity, sum(uncosted_quantity) AS uncosted_quantity, sum(revenue) AS revenue, sum(cod) AS cod,
    sum(cogs) AS cogs, CASE WHEN count(*) = count(order_fees) THEN sum(order_fees) END AS order_fees, CASE WHEN
    count(*) = count(cod_fees) THEN sum(cod_fees) END AS cod_fees, sum(unconfirmed_orders) AS unconfirmed_orders,
    sum(unconfirmed_amount) AS unconfirmed_amount, sum(unconfirmed_cod) AS unconfirmed_cod, sum(unconfirmed_cogs) AS
    unconfirmed_cogs, sum(restocking_orders) AS restocking_orders, sum(restocking_amount) AS restocking_amount,
    sum(restocking_cod) AS restocking_cod, sum(restocking_cogs) AS restocking_cogs, sum(confirmed_orders) AS
    confirmed_orders, sum(confirmed_amount) AS confirmed_amount, sum(confirmed_cod) AS confirmed_cod,
    sum(confirmed_cogs) AS confirmed_cogs, sum(waiting_pickup_orders) AS waiting_pickup_orders,
    sum(waiting_pickup_amount) AS waiting_pickup_amount, sum(waiting_pickup_cod) AS waiting_pickup_cod,
    sum(waiting_pickup_cogs) AS waiting_pickup_cogs, sum(shipped_orders) AS shipped_orders, sum(shipped_amount) AS
    shipped_amount, sum(shipped_cod) AS shipped_cod, sum(shipped_cogs) AS shipped_cogs, sum(delivered_orders) AS
    delivered_orders, sum(delivered_amount) AS delivered_amount, sum(delivered_cod) AS delivered_cod,
    sum(delivered_cogs) AS delivered_cogs, sum(partly_returned_orders) AS partly_returned_orders,
    sum(partly_returned_amount) AS partly_returned_amount, sum(partly_returned_cod) AS partly_returned_cod,
    sum(partly_returned_cogs) AS partly_returned_cogs, sum(returning_orders) AS returning_orders,
    sum(returning_amount) AS returning_amount, sum(returning_cod) AS returning_cod, sum(returning_cogs) AS
    returning_cogs, sum(returned_orders) AS returned_orders, sum(returned_amount) AS returned_amount,
    sum(returned_cod) AS returned_cod, sum(returned_cogs) AS returned_cogs, sum(cancelled_orders) AS
    cancelled_orders, sum(cancelled_amount) AS cancelled_amount, sum(cancelled_cod) AS cancelled_cod,
    sum(cancelled_cogs) AS cancelled_cogs, sum(excluded_orders) AS excluded_orders, sum(excluded_amount) AS
    excluded_amount, sum(excluded_cod) AS excluded_cod, sum(excluded_cogs) AS excluded_cogs, sum(other_orders) AS
    other_orders, sum(other_amount) AS other_amount, sum(other_cod) AS other_cod, sum(other_cogs) AS other_cogs, CASE
    WHEN count(*) = count(realised_outbound_fees) THEN sum(realised_outbound_fees) END AS realised_outbound_fees,
    CASE WHEN count(*) = count(realised_cod_fees) THEN sum(realised_cod_fees) END AS realised_cod_fees, CASE WHEN
    count(*) = count(return_fees) THEN sum(return_fees) END AS return_fees, CASE WHEN count(*) = count(lost_goods)
    THEN sum(lost_goods) END AS lost_goods, CASE WHEN count(*) = count(open_margin) THEN sum(open_margin) END AS
    open_margin, CASE WHEN count(*) = count(orders_margin_at_return_rate) THEN sum(orders_margin_at_return_rate) END
    AS orders_margin_at_return_rate FROM ad_performance GROUP BY tenant_id, date, campaign_id) AS summed;
CREATE OR REPLACE VIEW ad_performance_by_mapping WITH (security_invoker = true) AS SELECT tenant_id, date, mapping,
    spend, ad_cost, ad_taxes, impressions, clicks, link_clicks, leads, orders, quantity, uncosted_quantity, revenue,
    cod, cogs, order_fees, cod_fees, unconfirmed_orders, unconfirmed_amount, unconfirmed_cod, unconfirmed_cogs,
    restocking_orders, restocking_amount, restocking_cod, restocking_cogs, confirmed_orders, confirmed_amount,
    confirmed_cod, confirmed_cogs, waiting_pickup_orders, waiting_pickup_amount, waiting_pickup_cod,
    waiting_pickup_cogs, shipped_orders, shipped_amount, shipped_cod, shipped_cogs, delivered_orders,
    delivered_amount, delivered_cod, delivered_cogs, partly_returned_orders, partly_returned_amount,
    partly_returned_cod, partly_returned_cogs, returning_orders, returning_amount, returning_cod, returning_cogs,
    returned_orders, returned_amount, returned_cod, returned_cogs, cancelled_orders, cancelled_amount, cancelled_cod,
    cancelled_cogs, excluded_orders, excluded_amount, excluded_cod, excluded_cogs, other_orders, other_amount,
    other_cod, other_cogs, realised_outbound_fees, realised_cod_fees, return_fees, lost_goods, open_margin,
    orders_margin_at_return_rate, delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs -
    realised_outbound_fees - realised_cod_fees - return_fees - lost_goods - ad_cost - ad_taxes AS realised_margin,
    delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs - realised_outbound_fees -
    realised_cod_fees - return_fees - lost_goods - ad_cost - ad_taxes + open_margin AS projected_margin,
    orders_margin_at_return_rate - ad_cost - ad_taxes AS margin_at_return_rate, round((revenue)::numeric /
    NULLIF(ad_cost, 0), 4) AS roas, round((delivered_amount + partly_returned_amount)::numeric / NULLIF(ad_cost +
    ad_taxes, 0), 4) AS delivered_roas, round((delivered_amount + partly_returned_amount)::numeric /
    NULLIF(greatest(delivered_amount + partly_returned_amount - delivered_cogs - partly_returned_cogs -
    realised_outbound_fees - realised_cod_fees - return_fees - lost_goods, 0), 0), 4) AS break_even_roas,
    round((ad_cost)::numeric / NULLIF(orders, 0), 2) AS cost_per_order, round((ad_cost + ad_taxes)::numeric /
    NULLIF(delivered_orders + partly_returned_orders, 0), 2) AS cost_per_delivered_order, round((delivered_orders +
    partly_returned_orders)::numeric / NULLIF(delivered_orders + partly_returned_orders + returned_orders +
    cancelled_orders, 0), 4) AS delivery_rate, round((returned_orders)::numeric / NULLIF(delivered_orders +
    partly_returned_orders + returned_orders + cancelled_orders, 0), 4) AS return_rate,
    round((delivered_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders +
    returning_orders + returned_orders, 0), 4) AS delivery_rate_of_sent, round((partly_returned_orders +
    returning_orders + returned_orders)::numeric / NULLIF(shipped_orders + delivered_orders + partly_returned_orders
    + returning_orders + returned_orders, 0), 4) AS return_rate_of_sent, round((returning_orders +
    returned_orders)::numeric / NULLIF(delivered_orders + partly_returned_orders + returning_orders +
    returned_orders, 0), 4) AS rts_rate, round((cancelled_orders)::numeric / NULLIF(orders, 0), 4) AS
    cancellation_rate, round((delivered_orders + partly_returned_orders + returned_orders +
    cancelled_orders)::numeric / NULLIF(orders, 0), 4) AS settled_share, delivered_cod AS collected, cogs -
    partly_returned_cogs - returning_cogs - returned_cogs - cancelled_cogs AS net_cogs, revenue -
    partly_returned_amount - returning_amount - returned_amount - cancelled_amount AS net_revenue, revenue -
    partly_returned_amount - returning_amount - returned_amount - cancelled_amount - (cogs - partly_returned_cogs -
    returning_cogs - returned_cogs - cancelled_cogs) - order_fees - cod_fees - ad_cost AS contribution_margin FROM
    (SELECT tenant_id, date, mapping, sum(spend) AS spend, sum(ad_cost) AS ad_cost, CASE WHEN count(*) =
    count(ad_taxes) THEN sum(ad_taxes) END AS ad_taxes, sum(impressions) AS impressions, sum(clicks) AS clicks,
    sum(link_clicks) AS link_clicks, sum(leads) AS leads, sum(orders) AS orders, sum(quantity) AS quantity,
    sum(uncosted_quantity) AS uncosted_quantity, sum(revenue) AS revenue, sum(cod) AS cod, sum(cogs) AS cogs, CASE
    WHEN count(*) = count(order_fees) THEN sum(order_fees) END AS order_fees, CASE WHEN count(*) = count(cod_fees)
    THEN sum(cod_fees) END AS cod_fees, sum(unconfirmed_orders) AS unconfirmed_orders, sum(unconfirmed_amount) AS
    unconfirmed_amount, sum(unconfirmed_cod) AS unconfirmed_cod, sum(unconfirmed_cogs) AS unconfirmed_cogs,
    sum(restocking_orders) AS restocking_orders, sum(restocking_amount) AS restocking_amount, sum(restocking_cod) AS
    restocking_cod, sum(restocking_cogs) AS restocking_cogs, sum(confirmed_orders) AS confirmed_orders,
    sum(confirmed_amount) AS confirmed_amount, sum(confirmed_cod) AS confirmed_cod, sum(confirmed_cogs) AS
    confirmed_cogs, sum(waiting_pickup_orders) AS waiting_pickup_orders, sum(waiting_pickup_amount) AS
    waiting_pickup_amount, sum(waiting_pickup_cod) AS waiting_pickup_cod, sum(waiting_pickup_cogs) AS
    waiting_pickup_cogs, sum(shipped_orders) AS shipped_orders, sum(shipped_amount) AS shipped_amount,
    sum(shipped_cod) AS shipped_cod, sum(shipped_cogs) AS shipped_cogs, sum(delivered_orders) AS delivered_orders,
    sum(delivered_amount) AS delivered_amount, sum(delivered_cod) AS delivered_cod, sum(delivered_cogs) AS
    delivered_cogs, sum(partly_returned_orders) AS partly_returned_orders, sum(partly_returned_amount) AS
    partly_returned_amount, sum(partly_returned_cod) AS partly_returned_cod, sum(partly_returned_cogs) AS
    partly_returned_cogs, sum(returning_orders) AS returning_orders, sum(returning_amount) AS returning_amount,
    sum(returning_cod) AS returning_cod, sum(returning_cogs) AS returning_cogs, sum(returned_orders) AS
    returned_orders, sum(returned_amount) AS returned_amount, sum(returned_cod) AS returned_cod, sum(returned_cogs)
    AS returned_cogs, sum(cancelled_orders) AS cancelled_orders, sum(cancelled_amount) AS cancelled_amount,
    sum(cancelled_cod) AS cancelled_cod, sum(cancelled_cogs) AS cancelled_cogs, sum(excluded_orders) AS
    excluded_orders, sum(excluded_amount) AS excluded_amount, sum(excluded_cod) AS excluded_cod, sum(excluded_cogs)
    AS excluded_cogs, sum(other_orders) AS other_orders, sum(other_amount) AS other_amount, sum(other_cod) AS
    other_cod, sum(other_cogs) AS other_cogs, CASE WHEN count(*) = count(realised_outbound_fees) THEN
    sum(realised_outbound_fees) END AS realised_outbound_fees, CASE WHEN count(*) = count(realised_cod_fees) THEN
    sum(realised_cod_fees) END AS realised_cod_fees, CASE WHEN count(*) = count(return_fees) THEN sum(return_fees)
    END AS return_fees, CASE WHEN count(*) = count(lost_goods) THEN sum(lost_goods) END AS lost_goods, CASE WHEN
    count(*) = count(open_margin) THEN sum(open_margin) END AS open_margin, CASE WHEN count(*) =
    count(orders_margin_at_return_rate) THEN sum(orders_margin_at_return_rate) END AS orders_margin_at_return_rate
    FROM ad_performance GROUP BY tenant_id, date, mapping) AS summed;
CREATE OR REPLACE VIEW old_service_figures WITH (security_invoker = true) AS
WITH population AS (
    SELECT
        o.tenant_id, o.date_local AS date, o.cod, o.cogs, CASE WHEN o.status IN (0) THEN 'unconfirmed' WHEN o.status
            IN (1) THEN 'confirmed' WHEN o.status IN (9, 13) THEN 'waiting_pickup' WHEN o.status IN (11) THEN
            'restocking' WHEN o.status IN (2) THEN 'shipped' WHEN o.status IN (3) THEN 'delivered' WHEN o.status IN
            (4, 5) THEN 'rts' WHEN o.status IN (6) THEN 'cancelled' ELSE 'none' END AS bucket,
        NULLIF(o.tracking, '') IS NOT NULL AS processed,
        lower(coalesce(o.data ->> 'tags', '')) ~ '(^|")\s*(repurchase)\s*("|$)' AS repurchase,
        ((lower(coalesce(o.data ->> 'shopify_abandon_checkout_id', '')) NOT IN ('', 'false', '0') OR
            lower(coalesce(o.data ->> 'is_abandoned_order', '')) NOT IN ('', 'false', '0') OR lower(coalesce(o.data
            ->> 'is_webcake_abandoned_cart', '')) NOT IN ('', 'false', '0')) AND o.status = 0) IS TRUE AS
            abandoned_now, (lower(coalesce(o.data ->> 'shopify_abandon_checkout_id', '')) NOT IN ('', 'false', '0')
            OR lower(coalesce(o.data ->> 'is_abandoned_order', '')) NOT IN ('', 'false', '0') OR
            lower(coalesce(o.data ->> 'is_webcake_abandoned_cart', '')) NOT IN ('', 'false', '0')) AS abandoned_ever,
        f.outbound_fee, f.cod_percent, f.return_rate
    FROM pos_orders AS o
    LEFT JOIN figure_settings AS f ON f.tenant_id = o.tenant_id AND f.date = o.date_local
    WHERE NOT EXISTS (
        SELECT FROM pos_shops AS listed
        WHERE listed.tenant_id = o.tenant_id AND listed.shop_id = o.shop_id
            AND listed.disabled_from <= o.date_local
    )
        AND (o.status IN (7, -2)) IS NOT TRUE
        AND (o.status = 13 OR jsonb_path_exists(o.data, '$.items[*].product_id ? (@ != null && @ != "")') OR
            jsonb_path_exists(o.data, '$.order_items[*].product_id ? (@ != null && @ != "")'))
        AND (o.status = 6 AND lower(coalesce(o.data ->> 'tags', '')) ~ '(^|")\s*(duplicate|no product)\s*("|$)') IS
            NOT TRUE
        AND lower(coalesce(o.data ->> 'order_sources_name', '')) !~ 'tiktok|shopee'
),
of_orders AS (
    SELECT tenant_id, date, count(*) AS orders, sum(cod) AS cod, sum(cogs) AS cogs, count(*) FILTER (WHERE processed)
        AS processed_orders, count(*) FILTER (WHERE repurchase) AS repurchase_orders, coalesce(sum(cod) FILTER (WHERE
        repurchase), 0) AS repurchase_cod, count(*) FILTER (WHERE abandoned_now) AS abandoned_now_orders,
        coalesce(sum(cod) FILTER (WHERE abandoned_now), 0) AS abandoned_now_cod, count(*) FILTER (WHERE
        abandoned_ever) AS abandoned_ever_orders, coalesce(sum(cod) FILTER (WHERE abandoned_ever), 0) AS
        abandoned_ever_cod, count(*) FILTER (WHERE bucket = 'unconfirmed') AS unconfirmed_orders, coalesce(sum(cod)
        FILTER (WHERE bucket = 'unconfirmed'), 0) AS unconfirmed_cod, count(*) FILTER (WHERE bucket = 'unconfirmed'
        AND repurchase) AS repurchase_unconfirmed_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'unconfirmed' AND
        repurchase), 0) AS repurchase_unconfirmed_cod, count(*) FILTER (WHERE bucket = 'confirmed') AS
        confirmed_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'confirmed'), 0) AS confirmed_cod, count(*) FILTER
        (WHERE bucket = 'confirmed' AND repurchase) AS repurchase_confirmed_orders, coalesce(sum(cod) FILTER (WHERE
        bucket = 'confirmed' AND repurchase), 0) AS repurchase_confirmed_cod, count(*) FILTER (WHERE bucket =
        'waiting_pickup') AS waiting_pickup_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'waiting_pickup'), 0) AS
        waiting_pickup_cod, count(*) FILTER (WHERE bucket = 'waiting_pickup' AND repurchase) AS
        repurchase_waiting_pickup_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'waiting_pickup' AND repurchase),
        0) AS repurchase_waiting_pickup_cod, count(*) FILTER (WHERE bucket = 'restocking') AS restocking_orders,
        coalesce(sum(cod) FILTER (WHERE bucket = 'restocking'), 0) AS restocking_cod, count(*) FILTER (WHERE bucket =
        'restocking' AND repurchase) AS repurchase_restocking_orders, coalesce(sum(cod) FILTER (WHERE bucket =
        'restocking' AND repurchase), 0) AS repurchase_restocking_cod, count(*) FILTER (WHERE bucket = 'shipped') AS
        shipped_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'shipped'), 0) AS shipped_cod, count(*) FILTER
        (WHERE bucket = 'shipped' AND repurchase) AS repurchase_shipped_orders, coalesce(sum(cod) FILTER (WHERE
        bucket = 'shipped' AND repurchase), 0) AS repurchase_shipped_cod, count(*) FILTER (WHERE bucket =
        'delivered') AS delivered_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'delivered'), 0) AS delivered_cod,
        count(*) FILTER (WHERE bucket = 'delivered' AND repurchase) AS repurchase_delivered_orders, coalesce(sum(cod)
        FILTER (WHERE bucket = 'delivered' AND repurchase), 0) AS repurchase_delivered_cod, count(*) FILTER (WHERE
        bucket = 'rts') AS rts_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'rts'), 0) AS rts_cod, count(*)
        FILTER (WHERE bucket = 'rts' AND repurchase) AS repurchase_rts_orders, coalesce(sum(cod) FILTER (WHERE bucket
        = 'rts' AND repurchase), 0) AS repurchase_rts_cod, count(*) FILTER (WHERE bucket = 'cancelled') AS
        cancelled_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'cancelled'), 0) AS cancelled_cod, count(*) FILTER
        (WHERE bucket = 'cancelled' AND repurchase) AS repurchase_cancelled_orders, coalesce(sum(cod) FILTER (WHERE
        bucket = 'cancelled' AND repurchase), 0) AS repurchase_cancelled_cod, coalesce(sum(cogs) FILTER (WHERE bucket
        = 'restocking'), 0) AS restocking_cogs, coalesce(sum(cogs) FILTER (WHERE bucket = 'delivered'), 0) AS
        delivered_cogs, coalesce(sum(cogs) FILTER (WHERE bucket = 'rts'), 0) AS rts_cogs, coalesce(sum(cogs) FILTER
        (WHERE bucket = 'cancelled'), 0) AS cancelled_cogs, coalesce(sum(cod) FILTER (WHERE (bucket IN ('cancelled',
        'restocking', 'rts') OR abandoned_now OR repurchase) IS NOT TRUE), 0) AS revenue, CASE WHEN
        bool_and(outbound_fee IS NOT NULL) THEN coalesce(sum(outbound_fee) FILTER (WHERE bucket <> 'cancelled'), 0)
        END AS fees, CASE WHEN bool_and(outbound_fee IS NOT NULL) THEN coalesce(sum(outbound_fee) FILTER (WHERE
        bucket IN ('shipped', 'delivered', 'rts')), 0) END AS fees_of_sent, CASE WHEN bool_and(outbound_fee IS NOT
        NULL) THEN greatest(coalesce(sum(cod * cod_percent * 0.01) FILTER (WHERE bucket NOT IN ('rts', 'cancelled')),
        0), 0) END AS cod_fee, CASE WHEN bool_and(outbound_fee IS NOT NULL) THEN coalesce(sum(cod * cod_percent *
        0.01) FILTER (WHERE bucket = 'delivered'), 0) END AS delivered_cod_fee, CASE WHEN bool_and(outbound_fee IS
        NOT NULL) THEN coalesce(sum((1 - return_rate) * cod) FILTER (WHERE bucket NOT IN ('cancelled', 'restocking')
        AND NOT abandoned_now), 0) END AS cod_at_return_rate FROM population GROUP BY tenant_id, date
),
of_ads AS (
    SELECT
        tenant_id, date AS date, sum(ad_cost) AS spend,
        CASE WHEN count(*) = count(ad_taxes) THEN sum(ad_cost + ad_taxes) END AS spend_with_taxes,
        sum(leads) AS leads, sum(link_clicks) AS link_clicks, sum(impressions) AS impressions,
        count(DISTINCT ad_id) FILTER (WHERE spend > 0) AS ads_running
    FROM ad_performance GROUP BY 1, 2
),
figures AS (
    SELECT
        tenant_id, date,
        coalesce(orders, 0) AS orders, coalesce(cod, 0) AS cod, coalesce(cogs, 0) AS cogs, coalesce(processed_orders,
            0) AS processed_orders, coalesce(repurchase_orders, 0) AS repurchase_orders, coalesce(repurchase_cod, 0)
            AS repurchase_cod, coalesce(abandoned_now_orders, 0) AS abandoned_now_orders, coalesce(abandoned_now_cod,
            0) AS abandoned_now_cod, coalesce(abandoned_ever_orders, 0) AS abandoned_ever_orders,
            coalesce(abandoned_ever_cod, 0) AS abandoned_ever_cod, coalesce(unconfirmed_orders, 0) AS
            unconfirmed_orders, coalesce(unconfirmed_cod, 0) AS unconfirmed_cod,
            coalesce(repurchase_unconfirmed_orders, 0) AS repurchase_unconfirmed_orders,
            coalesce(repurchase_unconfirmed_cod, 0) AS repurchase_unconfirmed_cod, coalesce(confirmed_orders, 0) AS
            confirmed_orders, coalesce(confirmed_cod, 0) AS confirmed_cod, coalesce(repurchase_confirmed_orders, 0)
            AS repurchase_confirmed_orders, coalesce(repurchase_confirmed_cod, 0) AS repurchase_confirmed_cod,
            coalesce(waiting_pickup_orders, 0) AS waiting_pickup_orders, coalesce(waiting_pickup_cod, 0) AS
            waiting_pickup_cod, coalesce(repurchase_waiting_pickup_orders, 0) AS repurchase_waiting_pickup_orders,
            coalesce(repurchase_waiting_pickup_cod, 0) AS repurchase_waiting_pickup_cod, coalesce(restocking_orders,
            0) AS restocking_orders, coalesce(restocking_cod, 0) AS restocking_cod,
            coalesce(repurchase_restocking_orders, 0) AS repurchase_restocking_orders,
            coalesce(repurchase_restocking_cod, 0) AS repurchase_restocking_cod, coalesce(shipped_orders, 0) AS
            shipped_orders, coalesce(shipped_cod, 0) AS shipped_cod, coalesce(repurchase_shipped_orders, 0) AS
            repurchase_shipped_orders, coalesce(repurchase_shipped_cod, 0) AS repurchase_shipped_cod,
            coalesce(delivered_orders, 0) AS delivered_orders, coalesce(delivered_cod, 0) AS delivered_cod,
            coalesce(repurchase_delivered_orders, 0) AS repurchase_delivered_orders,
            coalesce(repurchase_delivered_cod, 0) AS repurchase_delivered_cod, coalesce(rts_orders, 0) AS rts_orders,
            coalesce(rts_cod, 0) AS rts_cod, coalesce(repurchase_rts_orders, 0) AS repurchase_rts_orders,
            coalesce(repurchase_rts_cod, 0) AS repurchase_rts_cod, coalesce(cancelled_orders, 0) AS cancelled_orders,
            coalesce(cancelled_cod, 0) AS cancelled_cod, coalesce(repurchase_cancelled_orders, 0) AS
            repurchase_cancelled_orders, coalesce(repurchase_cancelled_cod, 0) AS repurchase_cancelled_cod,
            coalesce(restocking_cogs, 0) AS restocking_cogs, coalesce(delivered_cogs, 0) AS delivered_cogs,
            coalesce(rts_cogs, 0) AS rts_cogs, coalesce(cancelled_cogs, 0) AS cancelled_cogs, coalesce(revenue, 0) AS
            revenue, CASE WHEN orders IS NOT NULL THEN fees ELSE 0 END AS fees, CASE WHEN orders IS NOT NULL THEN
            fees_of_sent ELSE 0 END AS fees_of_sent, CASE WHEN orders IS NOT NULL THEN cod_fee ELSE 0 END AS cod_fee,
            CASE WHEN orders IS NOT NULL THEN delivered_cod_fee ELSE 0 END AS delivered_cod_fee, CASE WHEN orders IS
            NOT NULL THEN cod_at_return_rate ELSE 0 END AS cod_at_return_rate,
        coalesce(spend, 0) AS spend, CASE WHEN spend IS NOT NULL THEN spend_with_taxes ELSE 0 END AS
            spend_with_taxes, coalesce(leads, 0) AS leads, coalesce(link_clicks, 0) AS link_clicks,
            coalesce(impressions, 0) AS impressions, coalesce(ads_running, 0) AS ads_running
    FROM of_orders FULL JOIN of_ads USING (tenant_id, date)
)
SELECT *, round(revenue - (cogs - cancelled_cogs - restocking_cogs) - fees - spend_with_taxes - cod_fee + rts_cogs,
    2) AS contribution_margin, round(delivered_cod - fees_of_sent - delivered_cod_fee - delivered_cogs - spend, 2) AS
    net_margin, round(cod_at_return_rate - spend - fees - delivered_cod_fee - (cogs - cancelled_cogs -
    restocking_cogs) + rts_cogs, 2) AS margin_at_return_rate, round(100.0 * spend / NULLIF(revenue, 0), 2) AS
    ar_percent, round(revenue / NULLIF(orders, 0), 2) AS aov, round(spend / NULLIF(orders, 0), 2) AS cpp, round(spend
    / NULLIF(processed_orders, 0), 2) AS processed_cpp, round(100.0 * orders / NULLIF(leads, 0), 2) AS
    conversion_percent, round(100.0 * rts_orders / NULLIF(delivered_orders + rts_orders, 0), 2) AS rts_percent,
    round(100.0 * cancelled_orders / NULLIF(orders, 0), 2) AS cancellation_percent, round(100.0 * (revenue - (cogs -
    cancelled_cogs - restocking_cogs) - fees - spend_with_taxes - cod_fee + rts_cogs) / NULLIF(spend, 0), 2) AS
    profit_efficiency_percent, round(spend / NULLIF(link_clicks, 0), 2) AS cpc, round(100.0 * link_clicks /
    NULLIF(impressions, 0), 2) AS ctr_percent, round(spend / NULLIF(leads, 0), 2) AS cpl FROM figures;
CREATE OR REPLACE VIEW old_service_figures_by_week WITH (security_invoker = true) AS
WITH population AS (
    SELECT
        o.tenant_id, date_trunc('week', o.date_local)::date AS week_start, o.cod, o.cogs, CASE WHEN o.status IN (0)
            THEN 'unconfirmed' WHEN o.status IN (1) THEN 'confirmed' WHEN o.status IN (9, 13) THEN 'waiting_pickup'
            WHEN o.status IN (11) THEN 'restocking' WHEN o.status IN (2) THEN 'shipped' WHEN o.status IN (3) THEN
            'delivered' WHEN o.status IN (4, 5) THEN 'rts' WHEN o.status IN (6) THEN 'cancelled' ELSE 'none' END AS
            bucket,
        NULLIF(o.tracking, '') IS NOT NULL AS processed,
        lower(coalesce(o.data ->> 'tags', '')) ~ '(^|")\s*(repurchase)\s*("|$)' AS repurchase,
        ((lower(coalesce(o.data ->> 'shopify_abandon_checkout_id', '')) NOT IN ('', 'false', '0') OR
            lower(coalesce(o.data ->> 'is_abandoned_order', '')) NOT IN ('', 'false', '0') OR lower(coalesce(o.data
            ->> 'is_webcake_abandoned_cart', '')) NOT IN ('', 'false', '0')) AND o.status = 0) IS TRUE AS
            abandoned_now, (lower(coalesce(o.data ->> 'shopify_abandon_checkout_id', '')) NOT IN ('', 'false', '0')
            OR lower(coalesce(o.data ->> 'is_abandoned_order', '')) NOT IN ('', 'false', '0') OR
            lower(coalesce(o.data ->> 'is_webcake_abandoned_cart', '')) NOT IN ('', 'false', '0')) AS abandoned_ever,
        f.outbound_fee, f.cod_percent, f.return_rate
    FROM pos_orders AS o
    LEFT JOIN figure_settings AS f ON f.tenant_id = o.tenant_id AND f.date = o.date_local
    WHERE NOT EXISTS (
        SELECT FROM pos_shops AS listed
        WHERE listed.tenant_id = o.tenant_id AND listed.shop_id = o.shop_id
            AND listed.disabled_from <= o.date_local
    )
        AND (o.status IN (7, -2)) IS NOT TRUE
        AND (o.status = 13 OR jsonb_path_exists(o.data, '$.items[*].product_id ? (@ != null && @ != "")') OR
            jsonb_path_exists(o.data, '$.order_items[*].product_id ? (@ != null && @ != "")'))
        AND (o.status = 6 AND lower(coalesce(o.data ->> 'tags', '')) ~ '(^|")\s*(duplicate|no product)\s*("|$)') IS
            NOT TRUE
        AND lower(coalesce(o.data ->> 'order_sources_name', '')) !~ 'tiktok|shopee'
),
of_orders AS (
    SELECT tenant_id, week_start, count(*) AS orders, sum(cod) AS cod, sum(cogs) AS cogs, count(*) FILTER (WHERE
        processed) AS processed_orders, count(*) FILTER (WHERE repurchase) AS repurchase_orders, coalesce(sum(cod)
        FILTER (WHERE repurchase), 0) AS repurchase_cod, count(*) FILTER (WHERE abandoned_now) AS
        abandoned_now_orders, coalesce(sum(cod) FILTER (WHERE abandoned_now), 0) AS abandoned_now_cod, count(*)
        FILTER (WHERE abandoned_ever) AS abandoned_ever_orders, coalesce(sum(cod) FILTER (WHERE abandoned_ever), 0)
        AS abandoned_ever_cod, count(*) FILTER (WHERE bucket = 'unconfirmed') AS unconfirmed_orders,
        coalesce(sum(cod) FILTER (WHERE bucket = 'unconfirmed'), 0) AS unconfirmed_cod, count(*) FILTER (WHERE bucket
        = 'unconfirmed' AND repurchase) AS repurchase_unconfirmed_orders, coalesce(sum(cod) FILTER (WHERE bucket =
        'unconfirmed' AND repurchase), 0) AS repurchase_unconfirmed_cod, count(*) FILTER (WHERE bucket = 'confirmed')
        AS confirmed_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'confirmed'), 0) AS confirmed_cod, count(*)
        FILTER (WHERE bucket = 'confirmed' AND repurchase) AS repurchase_confirmed_orders, coalesce(sum(cod) FILTER
        (WHERE bucket = 'confirmed' AND repurchase), 0) AS repurchase_confirmed_cod, count(*) FILTER (WHERE bucket =
        'waiting_pickup') AS waiting_pickup_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'waiting_pickup'), 0) AS
        waiting_pickup_cod, count(*) FILTER (WHERE bucket = 'waiting_pickup' AND repurchase) AS
        repurchase_waiting_pickup_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'waiting_pickup' AND repurchase),
        0) AS repurchase_waiting_pickup_cod, count(*) FILTER (WHERE bucket = 'restocking') AS restocking_orders,
        coalesce(sum(cod) FILTER (WHERE bucket = 'restocking'), 0) AS restocking_cod, count(*) FILTER (WHERE bucket =
        'restocking' AND repurchase) AS repurchase_restocking_orders, coalesce(sum(cod) FILTER (WHERE bucket =
        'restocking' AND repurchase), 0) AS repurchase_restocking_cod, count(*) FILTER (WHERE bucket = 'shipped') AS
        shipped_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'shipped'), 0) AS shipped_cod, count(*) FILTER
        (WHERE bucket = 'shipped' AND repurchase) AS repurchase_shipped_orders, coalesce(sum(cod) FILTER (WHERE
        bucket = 'shipped' AND repurchase), 0) AS repurchase_shipped_cod, count(*) FILTER (WHERE bucket =
        'delivered') AS delivered_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'delivered'), 0) AS delivered_cod,
        count(*) FILTER (WHERE bucket = 'delivered' AND repurchase) AS repurchase_delivered_orders, coalesce(sum(cod)
        FILTER (WHERE bucket = 'delivered' AND repurchase), 0) AS repurchase_delivered_cod, count(*) FILTER (WHERE
        bucket = 'rts') AS rts_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'rts'), 0) AS rts_cod, count(*)
        FILTER (WHERE bucket = 'rts' AND repurchase) AS repurchase_rts_orders, coalesce(sum(cod) FILTER (WHERE bucket
        = 'rts' AND repurchase), 0) AS repurchase_rts_cod, count(*) FILTER (WHERE bucket = 'cancelled') AS
        cancelled_orders, coalesce(sum(cod) FILTER (WHERE bucket = 'cancelled'), 0) AS cancelled_cod, count(*) FILTER
        (WHERE bucket = 'cancelled' AND repurchase) AS repurchase_cancelled_orders, coalesce(sum(cod) FILTER (WHERE
        bucket = 'cancelled' AND repurchase), 0) AS repurchase_cancelled_cod, coalesce(sum(cogs) FILTER (WHERE bucket
        = 'restocking'), 0) AS restocking_cogs, coalesce(sum(cogs) FILTER (WHERE bucket = 'delivered'), 0) AS
        delivered_cogs, coalesce(sum(cogs) FILTER (WHERE bucket = 'rts'), 0) AS rts_cogs, coalesce(sum(cogs) FILTER
        (WHERE bucket = 'cancelled'), 0) AS cancelled_cogs, coalesce(sum(cod) FILTER (WHERE (bucket IN ('cancelled',
        'restocking', 'rts') OR abandoned_now OR repurchase) IS NOT TRUE), 0) AS revenue, CASE WHEN
        bool_and(outbound_fee IS NOT NULL) THEN coalesce(sum(outbound_fee) FILTER (WHERE bucket <> 'cancelled'), 0)
        END AS fees, CASE WHEN bool_and(outbound_fee IS NOT NULL) THEN coalesce(sum(outbound_fee) FILTER (WHERE
        bucket IN ('shipped', 'delivered', 'rts')), 0) END AS fees_of_sent, CASE WHEN bool_and(outbound_fee IS NOT
        NULL) THEN greatest(coalesce(sum(cod * cod_percent * 0.01) FILTER (WHERE bucket NOT IN ('rts', 'cancelled')),
        0), 0) END AS cod_fee, CASE WHEN bool_and(outbound_fee IS NOT NULL) THEN coalesce(sum(cod * cod_percent *
        0.01) FILTER (WHERE bucket = 'delivered'), 0) END AS delivered_cod_fee, CASE WHEN bool_and(outbound_fee IS
        NOT NULL) THEN coalesce(sum((1 - return_rate) * cod) FILTER (WHERE bucket NOT IN ('cancelled', 'restocking')
        AND NOT abandoned_now), 0) END AS cod_at_return_rate FROM population GROUP BY tenant_id, week_start
),
of_ads AS (
    SELECT
        tenant_id, date_trunc('week', date)::date AS week_start, sum(ad_cost) AS spend,
        CASE WHEN count(*) = count(ad_taxes) THEN sum(ad_cost + ad_taxes) END AS spend_with_taxes,
        sum(leads) AS leads, sum(link_clicks) AS link_clicks, sum(impressions) AS impressions,
        count(DISTINCT ad_id) FILTER (WHERE spend > 0) AS ads_running
    FROM ad_performance GROUP BY 1, 2
),
figures AS (
    SELECT
        tenant_id, week_start,
        coalesce(orders, 0) AS orders, coalesce(cod, 0) AS cod, coalesce(cogs, 0) AS cogs, coalesce(processed_orders,
            0) AS processed_orders, coalesce(repurchase_orders, 0) AS repurchase_orders, coalesce(repurchase_cod, 0)
            AS repurchase_cod, coalesce(abandoned_now_orders, 0) AS abandoned_now_orders, coalesce(abandoned_now_cod,
            0) AS abandoned_now_cod, coalesce(abandoned_ever_orders, 0) AS abandoned_ever_orders,
            coalesce(abandoned_ever_cod, 0) AS abandoned_ever_cod, coalesce(unconfirmed_orders, 0) AS
            unconfirmed_orders, coalesce(unconfirmed_cod, 0) AS unconfirmed_cod,
            coalesce(repurchase_unconfirmed_orders, 0) AS repurchase_unconfirmed_orders,
            coalesce(repurchase_unconfirmed_cod, 0) AS repurchase_unconfirmed_cod, coalesce(confirmed_orders, 0) AS
            confirmed_orders, coalesce(confirmed_cod, 0) AS confirmed_cod, coalesce(repurchase_confirmed_orders, 0)
            AS repurchase_confirmed_orders, coalesce(repurchase_confirmed_cod, 0) AS repurchase_confirmed_cod,
            coalesce(waiting_pickup_orders, 0) AS waiting_pickup_orders, coalesce(waiting_pickup_cod, 0) AS
            waiting_pickup_cod, coalesce(repurchase_waiting_pickup_orders, 0) AS repurchase_waiting_pickup_orders,
            coalesce(repurchase_waiting_pickup_cod, 0) AS repurchase_waiting_pickup_cod, coalesce(restocking_orders,
            0) AS restocking_orders, coalesce(restocking_cod, 0) AS restocking_cod,
            coalesce(repurchase_restocking_orders, 0) AS repurchase_restocking_orders,
            coalesce(repurchase_restocking_cod, 0) AS repurchase_restocking_cod, coalesce(shipped_orders, 0) AS
            shipped_orders, coalesce(shipped_cod, 0) AS shipped_cod, coalesce(repurchase_shipped_orders, 0) AS
            repurchase_shipped_orders, coalesce(repurchase_shipped_cod, 0) AS repurchase_shipped_cod,
            coalesce(delivered_orders, 0) AS delivered_orders, coalesce(delivered_cod, 0) AS delivered_cod,
            coalesce(repurchase_delivered_orders, 0) AS repurchase_delivered_orders,
            coalesce(repurchase_delivered_cod, 0) AS repurchase_delivered_cod, coalesce(rts_orders, 0) AS rts_orders,
            coalesce(rts_cod, 0) AS rts_cod, coalesce(repurchase_rts_orders, 0) AS repurchase_rts_orders,
            coalesce(repurchase_rts_cod, 0) AS repurchase_rts_cod, coalesce(cancelled_orders, 0) AS cancelled_orders,
            coalesce(cancelled_cod, 0) AS cancelled_cod, coalesce(repurchase_cancelled_orders, 0) AS
            repurchase_cancelled_orders, coalesce(repurchase_cancelled_cod, 0) AS repurchase_cancelled_cod,
            coalesce(restocking_cogs, 0) AS restocking_cogs, coalesce(delivered_cogs, 0) AS delivered_cogs,
            coalesce(rts_cogs, 0) AS rts_cogs, coalesce(cancelled_cogs, 0) AS cancelled_cogs, coalesce(revenue, 0) AS
            revenue, CASE WHEN orders IS NOT NULL THEN fees ELSE 0 END AS fees, CASE WHEN orders IS NOT NULL THEN
            fees_of_sent ELSE 0 END AS fees_of_sent, CASE WHEN orders IS NOT NULL THEN cod_fee ELSE 0 END AS cod_fee,
            CASE WHEN orders IS NOT NULL THEN delivered_cod_fee ELSE 0 END AS delivered_cod_fee, CASE WHEN orders IS
            NOT NULL THEN cod_at_return_rate ELSE 0 END AS cod_at_return_rate,
        coalesce(spend, 0) AS spend, CASE WHEN spend IS NOT NULL THEN spend_with_taxes ELSE 0 END AS
            spend_with_taxes, coalesce(leads, 0) AS leads, coalesce(link_clicks, 0) AS link_clicks,
            coalesce(impressions, 0) AS impressions, coalesce(ads_running, 0) AS ads_running
    FROM of_orders FULL JOIN of_ads USING (tenant_id, week_start)
)
SELECT *, round(revenue - (cogs - cancelled_cogs - restocking_cogs) - fees - spend_with_taxes - cod_fee + rts_cogs,
    2) AS contribution_margin, round(delivered_cod - fees_of_sent - delivered_cod_fee - delivered_cogs - spend, 2) AS
    net_margin, round(cod_at_return_rate - spend - fees - delivered_cod_fee - (cogs - cancelled_cogs -
    restocking_cogs) + rts_cogs, 2) AS margin_at_return_rate, round(100.0 * spend / NULLIF(revenue, 0), 2) AS
    ar_percent, round(revenue / NULLIF(orders, 0), 2) AS aov, round(spend / NULLIF(orders, 0), 2) AS cpp, round(spend
    / NULLIF(processed_orders, 0), 2) AS processed_cpp, round(100.0 * orders / NULLIF(leads, 0), 2) AS
    conversion_percent, round(100.0 * rts_orders / NULLIF(delivered_orders + rts_orders, 0), 2) AS rts_percent,
    round(100.0 * cancelled_orders / NULLIF(orders, 0), 2) AS cancellation_percent, round(100.0 * (revenue - (cogs -
    cancelled_cogs - restocking_cogs) - fees - spend_with_taxes - cod_fee + rts_cogs) / NULLIF(spend, 0), 2) AS
    profit_efficiency_percent, round(spend / NULLIF(link_clicks, 0), 2) AS cpc, round(100.0 * link_clicks /
    NULLIF(impressions, 0), 2) AS ctr_percent, round(spend / NULLIF(leads, 0), 2) AS cpl FROM figures;
