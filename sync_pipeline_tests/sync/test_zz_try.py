import time
from datetime import date
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sync.bench import *
def test_x(shared_engine, tenant_files):
    with SandboxServer(world=small_world(ads=10, orders=10)) as sb:
        b = Bench(sb, shared_engine, demo_tenant(tenant_files), insights_page=2, orders_page=3)
        for n in range(3):
            t=time.time(); b.sync(days_from(date(2026,10,5),5)); print(time.time()-t, sb.requests.counts())
            b.start_over()
        t=time.time(); b.start_over(); print("over", time.time()-t)
        for a in sb.world.tenants["lumina"].accounts: print(a.account_id, len(a.ads), [len(sb.world.insights(a.account_id, d)) for d in days_from(date(2026,10,5),5)])
        for a in sb.world.tenants["lumina"].shops: print(a.shop_id, [len(sb.world.orders(a.shop_id, d)) for d in days_from(date(2026,10,5),5)])
