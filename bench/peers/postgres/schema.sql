create table q (id bigserial primary key, payload text not null);
-- Dead rows of a queue are at its front, where every claim begins.
alter table q set (autovacuum_vacuum_scale_factor = 0.01);
