//! Bodies and the steps that are found in them.
use proptest::prelude::*;

use super::{Step, read};

fn steps(body: &str) -> Vec<Step> {
    read(body).unwrap_or_else(|why| panic!("{why}: {body}")).steps
}

#[test]
fn every_piece_of_sql_is_found() {
    let body = r"
        <<outer>>
        declare
            total numeric(10,2) not null := f(1);
            c cursor (a int, b text default 'x') for select * from t where x = a;
            other alias for $1;
        begin
            -- execute 'in a comment';
            if total > 3 then total := total - 1; elsif g() then null; else perform h(total); end if;
            for r in select a, b from t2 loop
                insert into log values (r.a, ';');
                continue when r.b;
            end loop;
            for i in reverse 10 .. lower_one() by 2 loop exit; end loop;
            for r in c(5, 'y') loop null; end loop;
            foreach total in array array[1, 2] loop null; end loop;
            case total when 1, 2 then return 1; else raise notice 'x %', total using hint = k(); end case;
            case when total = 1 then null; end case;
            while z() loop update t set a = 1; end loop;
            select x, y into strict total, r.f from t3 where true;
            r.f[1] := 3;
            get stacked diagnostics total = message_text;
            open c; fetch next from c into total; close c;
            begin
                delete from t4 returning id into total;
            exception when unique_violation or sqlstate '22012' then return 2;
            end;
            return query select * from t5;
            return next;
            return total;
        end outer;";
    let found = format!("{:?}", steps(body));
    for piece in [
        "Let { target: \"total\", value: \"f(1)\" }",
        "Sql { text: \"select * from t where x = a\", into: [\"c\"] }",
        "Decide(\"total > 3\")",
        "Decide(\"g()\")",
        "SELECT h(total)",
        "Sql { text: \"select a, b from t2\", into: [\"r\"] }",
        "insert into log values (r.a, ';')",
        "Decide(\"r.b\")",
        "Decide(\"lower_one()\")",
        "Decide(\"1, 2\")",
        "Tell(\"k()\")",
        "Decide(\"z()\")",
        "select x, y from t3 where true",
        "Caught(\"total\")",
        "delete from t4 returning id",
        "ReturnQuery(\"select * from t5\")",
        "Return(\"total\")",
    ] {
        assert!(found.contains(piece), "{piece} is missing in {found}");
    }
}

#[test]
fn what_can_not_be_judged_is_an_error() {
    for body in [
        "begin execute 'select 1'; end",
        "begin if true then execute 'x'; end if; end",
        "begin for r in execute 'x' loop null; end loop; end",
        "begin return query execute 'x'; end",
        "begin open c for execute 'x'; end",
        "begin commit; end",
        "begin null; end; drop table x;",
        "begin null;",
        "select 1",
        "#variable_conflict use_column begin null; end",
        "begin end if; end",
        "begin x := ; end",
        "",
    ] {
        assert!(read(body).is_err(), "{body}");
    }
}

proptest! {
    #[test]
    fn no_body_upsets_it(body in "(begin |end |if |then |loop |for |in |;|:=|x |case |when |declare |cursor |raise |'s' |, |\\(|\\)|into |select |\\. |using |return ){0,40}") {
        let _ = read(&body);
    }
}
