"""The style of reports: system fonts, light and dark, from 360 pixels to a desktop, and paper."""

from millrace.reporting.palette import DARK, LIGHT, declarations

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:3.5rem}
body{margin:0;background:var(--page);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
a{color:var(--accent)}
a:focus-visible,summary:focus-visible,input:focus-visible,.scroll:focus-visible{outline:3px solid var(--accent);
outline-offset:2px}
h1,h2,h3,p,ul,ol,dl,figure,table{margin:0}
h1{font-size:clamp(1.5rem,1.1rem + 1.6vw,2.1rem);line-height:1.2;letter-spacing:-.01em}
h2{font-size:1.3rem;line-height:1.3;margin-bottom:.7rem}
h3{font-size:1rem;line-height:1.35}
code,.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.875em}
.wrap{max-width:76rem;margin:0 auto;padding:0 clamp(1rem,3vw,2rem)}
.skip,.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.skip:focus{position:static;width:auto;height:auto;clip-path:none;display:block;padding:.5rem 1rem}
.masthead{background:var(--surface);border-bottom:1px solid var(--line);padding:1.75rem 0 1.5rem}
.kicker{color:var(--quiet);font-size:.8rem;font-weight:600;letter-spacing:.08em;text-transform:uppercase;
margin-bottom:.35rem}
.title-row{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center}
.subtitle{color:var(--quiet);margin-top:.5rem;font-size:.925rem}
.contents{position:sticky;top:0;z-index:2;background:var(--surface);border-bottom:1px solid var(--line)}
.contents ul{display:flex;margin:0 -.7rem;gap:.25rem;list-style:none;padding:0;overflow-x:auto;scrollbar-width:thin}
.contents a{display:block;padding:.65rem .7rem;color:var(--ink);text-decoration:none;white-space:nowrap;
font-size:.9rem}
.contents a:hover{color:var(--accent);text-decoration:underline}
main{padding:1.5rem 0 3rem}
section{margin-top:2.5rem}section:first-child{margin-top:0}
.lead{color:var(--quiet);margin:-.45rem 0 1rem;max-width:48rem}
.panel{background:var(--surface);border:1px solid var(--line);border-radius:.75rem;padding:1.1rem 1.25rem}
.panel>ul{padding-left:1.1rem;margin-top:.5rem}
.panel+.panel,.panel+.scroll,.scroll+.panel{margin-top:1rem}
.badge{display:inline-block;padding:.1rem .55rem;border-radius:1rem;font-size:.78rem;font-weight:600;line-height:1.5;
background:var(--sunken);color:var(--ink);white-space:nowrap;vertical-align:.08em}
.badge.good{background:var(--good-soft);color:var(--good)}.badge.warn{background:var(--warn-soft);color:var(--warn)}
.badge.bad{background:var(--bad-soft);color:var(--bad)}.badge.accent{background:var(--accent-soft);color:var(--accent)}
.badge.large{font-size:.95rem;padding:.25rem .85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.5rem),1fr));gap:.75rem;margin-top:1.25rem}
.tiles>div{background:var(--sunken);border-radius:.6rem;padding:.7rem .9rem}
.tiles dt{color:var(--quiet);font-size:.82rem}.tiles dd{margin:0;font-size:1.4rem;font-weight:650;line-height:1.3;
font-variant-numeric:tabular-nums}
.tiles .hint{display:block;font-size:.8rem;font-weight:400;color:var(--quiet);line-height:1.35}
.callout{border-left:4px solid var(--accent);background:var(--accent-soft);border-radius:.4rem;padding:.7rem 1rem;
margin-top:1rem}
.callout.bad{border-color:var(--bad);background:var(--bad-soft)}
.callout.good{border-color:var(--good);background:var(--good-soft)}
.callout.warn{border-color:var(--warn);background:var(--warn-soft)}
.callout ul{padding-left:1.1rem}.callout strong{display:block}
.finding{display:grid;grid-template-columns:5.5rem 1fr;gap:.15rem .9rem;padding:.8rem 0;
border-top:1px solid var(--line)}
.finding:first-child{border-top:0;padding-top:0}.finding:last-child{padding-bottom:0}
.finding>.badge{justify-self:start;align-self:start}
.finding .about{color:var(--quiet);font-size:.86rem}
.findings{list-style:none}.findings.panel{padding:1.1rem 1.25rem}
.examples{display:flex;flex-wrap:wrap;gap:.3rem .9rem;margin-top:.35rem;list-style:none;padding:0;font-size:.84rem;
color:var(--quiet)}
.examples code{background:var(--sunken);color:var(--ink);border-radius:.3rem;padding:.05rem .4rem}
.scroll{overflow-x:auto;background:var(--surface);border:1px solid var(--line);border-radius:.75rem;position:relative}
.scroll table{width:100%;border-collapse:collapse;font-size:.9rem}
.scroll th,.scroll td{overflow-wrap:normal;padding:.5rem .8rem;text-align:left;vertical-align:top;
border-top:1px solid var(--line)}
.scroll thead th{border-top:0;color:var(--quiet);font-weight:600;font-size:.82rem;white-space:nowrap;
background:var(--surface)}
.scroll tbody th{font-weight:600;max-width:18rem;overflow-wrap:break-word}
.scroll td.wide{min-width:14rem;overflow-wrap:anywhere}
.number{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll .mono{white-space:pre-wrap}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:1rem}
.card{background:var(--surface);border:1px solid var(--line);border-radius:.75rem;padding:1rem 1.1rem;
display:flex;flex-direction:column;gap:.7rem;min-width:0}
.card-head{display:flex;flex-wrap:wrap;gap:.3rem .5rem;align-items:baseline}.card-head h3{margin-right:auto;min-width:0}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(4.3rem,1fr));gap:.4rem .7rem;font-size:.86rem}
.facts dt{color:var(--quiet);font-size:.76rem}.facts dd{margin:0;font-variant-numeric:tabular-nums;font-weight:600}
.facts .hint{font-weight:400;color:var(--quiet);display:block}
.facts.roomy{grid-template-columns:repeat(3,1fr)}
.card>.facts+.facts{border-top:1px solid var(--line);padding-top:.6rem}
.notes{font-size:.86rem;padding-left:1.1rem}.quiet{color:var(--quiet);font-size:.86rem}
.after{margin-top:.7rem}.more{margin:1.5rem 0 .6rem}
.ranking .quiet{margin-top:.8rem}
.chart svg{display:block;overflow:visible;width:100%;height:auto;max-width:32rem}
.chart text{fill:var(--quiet);font:10.5px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif}
.chart .axis.x text{text-anchor:middle}.chart .axis.y text{text-anchor:end}
.chart .guide,.chart .axis path{stroke:var(--line);stroke-width:1;fill:none}.chart .axis.x .guides path{display:none}
.chart .bar{fill:var(--mark);stroke:var(--surface);stroke-width:.75}
.chart.two .color-0 .bar{fill:var(--mark-other)}.chart.two .color-1 .bar{fill:var(--mark)}
.chart .bar:hover{opacity:.75}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.82rem;color:var(--quiet)}
.legend .key{display:inline-block;width:.75rem;height:.75rem;border-radius:.15rem;margin-right:.4rem;
background:var(--mark)}.legend .key-1{background:var(--mark-other)}
.lines{max-width:30rem}.lines .line{fill:none;stroke:var(--mark);stroke-width:2;stroke-linejoin:round}
.lines .line.other{stroke:var(--mark-other)}.lines .line.reference{stroke:var(--quiet);stroke-width:1.25;
stroke-dasharray:5 4}.lines .line.bound{stroke:var(--mark);stroke-width:1;stroke-dasharray:2 3}
.lines .dot{fill:var(--mark);stroke:var(--surface);stroke-width:.6}.lines .dot.other{fill:var(--mark-other)}
.lines .axis.y .guides .guide{stroke-dasharray:1 3}
.axis-title{font-size:.78rem;color:var(--quiet)}.axis-title.x{text-align:right;margin-top:-.2rem}
.legend .key.main,.legend .key.other,.legend .key.reference,.legend .key.bound{height:.2rem;width:1.1rem;
vertical-align:.2rem;border-radius:0}
.legend .key.other{background:var(--mark-other)}.legend .key.reference{background:var(--quiet)}
.legend .key.bound{opacity:.55}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem;margin-top:1rem}
.figures figure+figure,.figures .bars+figure,.figures p+figure,.figures p+.bars{margin-top:.9rem}
.figures h3{margin-bottom:.5rem}.figures .panel{margin:0;min-width:0}.figures .panel>.quiet{margin-top:.5rem}
.span{display:block;width:7.5rem;height:.875rem}.span .track{fill:var(--line)}.span .range{fill:var(--mark);opacity:.45}
.span .value{fill:var(--mark)}.span .mark{fill:var(--mark-other)}
.matrix{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
.matrix th,.matrix td{padding:.45rem .6rem;text-align:center;border:2px solid var(--surface);overflow-wrap:normal}
.matrix th{font-weight:600;color:var(--quiet)}.matrix tbody th{text-align:right}
.matrix .share{display:block;font-size:.75rem}
.scroll .matrix{width:auto}.scroll .matrix th,.scroll .matrix td{border:2px solid var(--surface)}
pre{margin:0;overflow-x:auto;background:var(--sunken);border-radius:.5rem;padding:.8rem 1rem;font-size:.84rem;
line-height:1.45}
.bars{width:100%;border-collapse:collapse;font-size:.86rem}
.bars th,.bars td{padding:.2rem 0;text-align:left;vertical-align:top;font-weight:400}
.bars thead th{color:var(--quiet);font-size:.76rem;padding-top:0}
.bars .amount,.bars .note{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;
padding-left:.9rem;width:1%}
.bars .note{color:var(--quiet)}
.bars thead .note{white-space:normal;min-width:3.2rem;max-width:6rem}
.bars.wide th,.bars.wide td{vertical-align:middle}
.bars.wide tbody th{width:30%;padding-right:1rem}.bars.wide .bar-cell{min-width:3rem}
.bars.wide .note{min-width:5.5rem}
.clip{display:-webkit-box;-webkit-line-clamp:2;-webkit-box-orient:vertical;overflow:hidden;line-height:1.3}
.meter{display:block;width:100%;height:.34rem;border-radius:.2rem;margin-top:.15rem}
.wide .meter{height:.8rem;margin:0}
.meter .track{fill:var(--sunken)}.meter .bar{fill:var(--mark)}
details{margin-top:.6rem}
details>summary{cursor:pointer;color:var(--accent);font-weight:600;font-size:.9rem;padding:.3rem 0}
.sheet{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}
.sheet h3{margin-bottom:.4rem}.sheet ul{padding-left:1.1rem;font-size:.92rem}.sheet .panel{margin:0}
.pairs{display:grid;grid-template-columns:minmax(7rem,11rem) 1fr;gap:.3rem 1rem;font-size:.92rem}
.pairs dt{color:var(--quiet)}.pairs dd{margin:0}
.filter{display:flex;flex-wrap:wrap;gap:.5rem .8rem;align-items:center;margin-bottom:1rem;font-size:.9rem}
.filter[hidden],[data-filter][hidden]{display:none}
.filter label{display:flex;flex-wrap:wrap;gap:.3rem .7rem;align-items:center}
.filter input{font:inherit;color:inherit;background:var(--surface);border:1px solid var(--quiet);border-radius:.5rem;
padding:.4rem .7rem;width:18rem;max-width:100%}
footer{color:var(--quiet);font-size:.85rem;border-top:1px solid var(--line);padding:1.25rem 0 2.5rem}
@media (max-width:34rem){
.finding{grid-template-columns:1fr}.panel{padding:1rem}.pairs{grid-template-columns:1fr;gap:0}
.pairs dd{margin-bottom:.6rem}.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}
.bars.wide .note{min-width:0}
}
@media (prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}
"""

# The cells of a table that is a map, from the ground's colour to one on which ink still has a contrast of 4.5.
_HEAT = "".join(
    f".heat-{step}{{background:color-mix(in srgb,var(--mark) {5 * step}%,var(--sunken))}}" for step in range(10)
)

# Paper is white whatever the screen is, shows what the screen scrolls or folds, and cuts no card in two.
_PAPER = """
@page{margin:14mm}:root{--page:#ffffff}.tiles{grid-template-columns:repeat(3,1fr)}
body{font-size:9.5pt}.contents,.filter,.skip{display:none!important}
.wrap{max-width:none;padding:0}.masthead{padding-top:0}
.scroll{overflow:visible}.cards{grid-template-columns:repeat(2,1fr)}
.card,.panel,.finding,tr,.tiles>div{break-inside:avoid}h2,h3{break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
"""

STYLE = (
    f":root{{color-scheme:light dark;{declarations(LIGHT)}}}"
    f"@media screen and (prefers-color-scheme:dark){{:root{{{declarations(DARK)}}}}}"
    f"{_RULES}{_HEAT}@media print{{{_PAPER}}}"
).replace("\n", "")
