-- What the gate reads of a database's catalog, once for each state of it. Every row begins with the
-- kind of fact that it is. Names and operators are qualified, so that no search_path redirects them;
-- what is numbered from 16384 is not PostgreSQL's own. Temporary objects belong to one session, and
-- no session of the gate can make any.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT 'type', t.oid, n.nspname, t.typname, t.typtype, t.typcategory, t.typelem, t.typbasetype,
       t.typrelid
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
 WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast|temp_|toast_temp_)';
SELECT 'builtin', p.oid, n.nspname, p.proname, p.prokind, p.prorettype, p.proargtypes,
       p.pronargdefaults, p.provariadic
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
 WHERE p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid;
SELECT 'function', p.oid, n.nspname, p.proname, p.prokind, p.prorettype, p.proargtypes,
       p.pronargdefaults, p.provariadic, l.lanname, e.extname,
       p.probin, r.rolsuper, p.prosecdef,
       CASE WHEN l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,internal}'::pg_catalog.name[]) AND p.prosqlbody IS NULL THEN p.prosrc END,
       pg_catalog.array_to_string(p.proconfig, E'\n'), pg_catalog.oidvectortypes(p.proargtypes)
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
  LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) p.proowner
  LEFT JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
   AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e'
  LEFT JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
 WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'operator', o.oid, n.nspname, o.oprname, o.oprleft, o.oprright, o.oprresult
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace;
SELECT 'cast', c.castsource, c.casttarget, c.castfunc, c.castcontext FROM pg_catalog.pg_cast c;
SELECT 'relation', c.oid, n.nspname, c.relname, c.relkind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,f,p,S,c}'::"char"[])
   AND n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast|temp_|toast_temp_)';
SELECT 'column', a.attrelid, a.attname, a.atttypid
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
 WHERE NOT a.attisdropped AND a.attnum OPERATOR(pg_catalog.<>) 0::pg_catalog.int2
   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,f,p,S,c}'::"char"[])
   AND c.relpersistence OPERATOR(pg_catalog.<>) 't' ORDER BY a.attrelid, a.attnum;
-- Expressions, with what runs them: the body of a view, the condition of a policy for reading, the
-- conditions of domains, the bodies and default arguments of functions; and those in which the planner
-- folds constants for a relation that is merely read.
SELECT 'tree', 'relation', r.ev_class, r.ev_action FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class
 WHERE r.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND r.ev_type OPERATOR(pg_catalog.=) '1'
   AND c.relkind OPERATOR(pg_catalog.<>) 'm';
SELECT 'tree', 'relation', p.polrelid, p.polqual FROM pg_catalog.pg_policy p
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid
 WHERE c.relrowsecurity AND p.polqual IS NOT NULL AND p.polcmd OPERATOR(pg_catalog.=) ANY ('{r,*}'::"char"[]);
SELECT 'planned', 'relation', i.indrelid, x.tree FROM pg_catalog.pg_index i,
       LATERAL (VALUES (i.indexprs), (i.indpred)) x(tree)
 WHERE x.tree IS NOT NULL AND i.indexrelid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'planned', 'relation', c.conrelid, c.conbin FROM pg_catalog.pg_constraint c
 WHERE c.contype OPERATOR(pg_catalog.=) 'c' AND c.conrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
   AND c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'tree', 'input', c.contypid, c.conbin FROM pg_catalog.pg_constraint c
 WHERE c.contype OPERATOR(pg_catalog.=) 'c' AND c.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
   AND c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'planned', 'relation', s.stxrelid, s.stxexprs FROM pg_catalog.pg_statistic_ext s
 WHERE s.stxexprs IS NOT NULL;
SELECT 'planned', 'relation', p.partrelid, p.partexprs FROM pg_catalog.pg_partitioned_table p
 WHERE p.partexprs IS NOT NULL;
SELECT 'tree', 'relation', d.adrelid, d.adbin FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) d.adrelid AND a.attnum OPERATOR(pg_catalog.=) d.adnum
 WHERE a.attgenerated OPERATOR(pg_catalog.=) 'v';
SELECT 'tree', 'function', p.oid, x.tree FROM pg_catalog.pg_proc p,
       LATERAL (VALUES (p.prosqlbody), (p.proargdefaults)) x(tree)
 WHERE x.tree IS NOT NULL AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
-- What uses what, by number.
SELECT 'uses', 'relation', i.inhparent, 'relation', i.inhrelid FROM pg_catalog.pg_inherits i;
SELECT 'uses', 'operator', o.oid, 'support', x.f FROM pg_catalog.pg_operator o,
       LATERAL (VALUES (o.oprcode::pg_catalog.oid), (o.oprrest::pg_catalog.oid), (o.oprjoin::pg_catalog.oid)) x(f)
 WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND x.f OPERATOR(pg_catalog.<>) 0::pg_catalog.oid;
SELECT 'uses', 'operator', o.oid, 'operator', x.o FROM pg_catalog.pg_operator o,
       LATERAL (VALUES (o.oprcom), (o.oprnegate)) x(o)
 WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND x.o OPERATOR(pg_catalog.<>) 0::pg_catalog.oid;
SELECT 'uses', 'function', a.aggfnoid::pg_catalog.oid, 'support', x.f FROM pg_catalog.pg_aggregate a,
       LATERAL (VALUES (a.aggtransfn::pg_catalog.oid), (a.aggfinalfn::pg_catalog.oid), (a.aggcombinefn::pg_catalog.oid),
         (a.aggserialfn::pg_catalog.oid), (a.aggdeserialfn::pg_catalog.oid), (a.aggmtransfn::pg_catalog.oid),
         (a.aggminvtransfn::pg_catalog.oid), (a.aggmfinalfn::pg_catalog.oid)) x(f)
 WHERE a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND x.f OPERATOR(pg_catalog.<>) 0::pg_catalog.oid;
SELECT 'uses', 'function', a.aggfnoid::pg_catalog.oid, 'operator', a.aggsortop FROM pg_catalog.pg_aggregate a
 WHERE a.aggfnoid::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND a.aggsortop OPERATOR(pg_catalog.<>) 0::pg_catalog.oid;
SELECT 'uses', 'function', p.oid, 'support', p.prosupport::pg_catalog.oid FROM pg_catalog.pg_proc p
 WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.prosupport::pg_catalog.oid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid;
SELECT 'uses', 'input', t.oid, 'support', x.f FROM pg_catalog.pg_type t,
       LATERAL (VALUES (t.typinput::pg_catalog.oid), (t.typreceive::pg_catalog.oid), (t.typmodin::pg_catalog.oid)) x(f)
 WHERE t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND x.f OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'uses', 'output', t.oid, 'support', x.f FROM pg_catalog.pg_type t,
       LATERAL (VALUES (t.typoutput::pg_catalog.oid), (t.typsend::pg_catalog.oid), (t.typmodout::pg_catalog.oid),
         (t.typsubscript::pg_catalog.oid)) x(f)
 WHERE t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND x.f OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'uses', 'output', r.rngtypid, 'support', x.f FROM pg_catalog.pg_range r,
       LATERAL (VALUES (r.rngcanonical::pg_catalog.oid), (r.rngsubdiff::pg_catalog.oid)) x(f)
 WHERE x.f OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'uses', x.item, r.rngtypid, x.item, r.rngsubtype FROM pg_catalog.pg_range r,
       LATERAL (VALUES ('input'), ('output')) x(item) WHERE r.rngtypid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'uses', x.item, r.rngmultitypid, x.item, r.rngtypid FROM pg_catalog.pg_range r,
       LATERAL (VALUES ('input'), ('output')) x(item) WHERE r.rngtypid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
-- Sorting, grouping and hashing use the operator classes of a type; an index uses those it was made with.
SELECT 'uses', 'output', c.opcintype, 'support', p.amproc::pg_catalog.oid FROM pg_catalog.pg_opclass c
  JOIN pg_catalog.pg_amproc p ON p.amprocfamily OPERATOR(pg_catalog.=) c.opcfamily
 WHERE c.opcintype OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT 'uses', 'output', c.opcintype, 'operator', o.amopopr FROM pg_catalog.pg_opclass c
  JOIN pg_catalog.pg_amop o ON o.amopfamily OPERATOR(pg_catalog.=) c.opcfamily
 WHERE c.opcintype OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT DISTINCT 'uses', 'relation', i.indrelid, 'support', p.amproc::pg_catalog.oid FROM pg_catalog.pg_index i,
       LATERAL pg_catalog.unnest(i.indclass::pg_catalog.oid[]) k(opclass)
  JOIN pg_catalog.pg_opclass c ON c.oid OPERATOR(pg_catalog.=) k.opclass
  JOIN pg_catalog.pg_amproc p ON p.amprocfamily OPERATOR(pg_catalog.=) c.opcfamily
 WHERE p.amproc::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
SELECT DISTINCT 'uses', 'relation', t.partrelid, 'support', p.amproc::pg_catalog.oid FROM pg_catalog.pg_partitioned_table t,
       LATERAL pg_catalog.unnest(t.partclass::pg_catalog.oid[]) k(opclass)
  JOIN pg_catalog.pg_opclass c ON c.oid OPERATOR(pg_catalog.=) k.opclass
  JOIN pg_catalog.pg_amproc p ON p.amprocfamily OPERATOR(pg_catalog.=) c.opcfamily
 WHERE p.amproc::pg_catalog.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid;
-- A class that somebody has made for one of PostgreSQL's own types is used wherever such values are sorted.
SELECT 'uses', 'output', c.opcintype, 'support', p.amproc::pg_catalog.oid FROM pg_catalog.pg_opclass c
  JOIN pg_catalog.pg_amproc p ON p.amprocfamily OPERATOR(pg_catalog.=) c.opcfamily
 WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND c.opcdefault
   AND c.opcintype OPERATOR(pg_catalog.<) 16384::pg_catalog.oid;
COMMIT
