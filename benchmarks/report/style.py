"""Style sheet of the report pages."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2430; --soft: #667085; --line: #d9dee6; --card: #f6f7f9; --warn: #9a3412;
  --c0: #2563a8; --c1: #e08214; --c2: #3f9b5f; --c3: #b5477a; --c4: #7a6bb0; --c5: #8a8f98 }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e9ee; --soft: #9aa4b2; --line: #353c47; --card: #1c2128;
  --warn: #fdba74; --c0: #6aa7e8; --c1: #f0a04b; --c2: #6cc48a; --c3: #e08bb0; --c4: #a99ee0; --c5: #9aa0a8 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; font: 16px/1.5 system-ui, sans-serif; background: var(--paper); color: var(--ink) }
h1 { font-size: 1.6rem; margin: .5rem 0 } h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; padding-top: .8rem; border-top: 2px solid var(--line) }
h3 { font-size: 1.05rem; margin: 1.2rem 0 .2rem } nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem } a { color: var(--c0) }
.source, .note { color: var(--soft); font-size: .85rem; margin: .2rem 0 .6rem } code { overflow-wrap: anywhere }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1rem; align-items: start }
figure { margin: 0; padding: .7rem .8rem; background: var(--card); border-radius: .5rem; min-width: 0 }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .5rem }
.scroll { overflow-x: auto; margin: .8rem 0 } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .2rem } th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap }
th { border-bottom: 1px solid var(--soft) } td { border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper) }
svg { display: block; overflow: visible; font: 13px system-ui, sans-serif; fill: var(--ink) }
svg text { paint-order: stroke; stroke: var(--card); stroke-width: 3px }
svg .axis { fill: var(--soft); font-size: 12px } svg .small { font-size: 11px; fill: var(--soft) } svg .value { font-variant-numeric: tabular-nums }
.grid { stroke: var(--line) } .mark { stroke: var(--ink); stroke-width: 2 } .limit { stroke: var(--c3); stroke-width: 1.5; stroke-dasharray: 5 4 }
.dot { fill: var(--ink); stroke: var(--paper) }
.c0 { fill: var(--c0); background: var(--c0) } .c1 { fill: var(--c1); background: var(--c1) } .c2 { fill: var(--c2); background: var(--c2) }
.c3 { fill: var(--c3); background: var(--c3) } .c4 { fill: var(--c4); background: var(--c4) } .c5 { fill: var(--c5); background: var(--c5) }
.legend { margin: .4rem 0 0; font-size: .82rem } .legend span { margin-right: 1rem; white-space: nowrap }
.legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border-radius: 2px }
.mark.m1 { stroke-dasharray: 6 3 } .mark.m2 { stroke-dasharray: 2 3 }
.legend i[class^=m] { width: 0; height: 1em; vertical-align: -.15em; border-radius: 0 }
.legend .m0 { border-left: 2px solid } .legend .m1 { border-left: 2px dashed } .legend .m2 { border-left: 2px dotted } .warning { color: var(--warn) }
@media print { @page { margin: 12mm } body { max-width: none; padding: 0; font-size: 9.5pt } nav { display: none }
  h2, h3, .source, .note { break-after: avoid } figure, table, p { break-inside: avoid }
  figure { border: 1px solid var(--line); padding: .4rem .6rem }
  .plots { grid-template-columns: 1fr 1fr; gap: .6rem } .scroll { overflow: visible } table { font-size: 7.5pt }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""
