-- A task's way through a queue in a table: enqueued (one flush), then claimed and done with (another one). A claim that
-- another one got ahead of deletes nothing; that counts as a cycle all the same.
insert into q (payload) values (repeat('x', 64));
delete from q where id = (select id from q order by id for update skip locked limit 1);
