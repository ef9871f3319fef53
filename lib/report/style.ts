/** The look of the report. Colours are those of Okabe and Ito (told apart by colour-blind eyes), darker or lighter by theme. */
export const style = `
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b1f24;--soft:#5b6673;--line:#dfe3e8;--grid:#e9ecf0;--accent:#0b63b5;
--c0:#0b63b5;--c1:#c2410c;--c2:#00785a;--c3:#a8326e;--c4:#8a6100;--c5:#5b4bc4;--c6:#2b7a9e;--c7:#5f6b7a;--good:#00785a;--warn:#a15c00}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--card:#171d24;--ink:#e7ebf0;--soft:#98a4b3;--line:#2a323c;--grid:#232b34;--accent:#6cb4ff;
--c0:#6cb4ff;--c1:#ff9a57;--c2:#3fd0a4;--c3:#f28bc0;--c4:#e5bd4f;--c5:#a99bff;--c6:#7fd3f0;--c7:#9aa7b6;--good:#3fd0a4;--warn:#f0b35a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:40px 0 12px}
h3{font-size:15px;margin:24px 0 8px}
.sub{color:var(--soft);margin:0 0 12px}
.chip{display:inline-block;padding:1px 10px;border-radius:99px;border:1px solid currentColor;font-size:12.5px;font-weight:600;vertical-align:4px;margin-left:10px}
.chip.good{color:var(--good)}.chip.warn{color:var(--warn)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:12px;margin:24px 0 0;padding:0}
.tiles div,figure,.box{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tiles div{padding:12px 16px}
.tiles dt{color:var(--soft);font-size:12.5px}
.tiles dd{margin:0;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}
.tiles small{font-size:12.5px;font-weight:400;color:var(--soft);white-space:normal;display:block}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:16px}
figure{margin:0;padding:14px 14px 10px}
figcaption{font-weight:600;font-size:14px;margin:0 0 6px 4px}
.unit{color:var(--soft);font-weight:400}
.plot{position:relative}
.chart{display:block;width:100%;height:auto;border-radius:6px;touch-action:pan-y}
.chart:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.grid line{stroke:var(--grid)}
.axis text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
.series path{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}
.series circle{fill:var(--c);stroke:var(--card);stroke-width:1}
.series.faint path{stroke-width:1;opacity:.38}
.mark{stroke:var(--warn);stroke-width:1;stroke-dasharray:3 3}
.cursor[hidden]{display:none}
.cursor line{stroke:var(--soft);stroke-width:1}
.cursor circle{fill:var(--c);stroke:var(--card);stroke-width:1.5}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}
.dots.c2 path,.dots.c6 path{stroke-dasharray:7 3}.dots.c3 path,.dots.c7 path{stroke-dasharray:2 3}.dots.c4 path{stroke-dasharray:9 3 2 3}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:4px 0 0 4px;padding:0;font-size:13px;color:var(--soft)}
.legend span,.tip span{display:inline-block;width:10px;height:10px;border-radius:50%;background:var(--c);margin-right:6px}
.legend .faint span{opacity:.4}
.tip{position:absolute;top:4px;pointer-events:none;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:6px 10px;font-size:12.5px;box-shadow:0 4px 14px #0003;font-variant-numeric:tabular-nums;white-space:nowrap;z-index:1}
.tip b{display:block}
.box{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
caption{text-align:left;color:var(--soft);padding:10px 14px 4px;font-size:13px}
th,td{text-align:left;padding:7px 14px;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:12.5px}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tbody th{font-weight:400}
.text{overflow-wrap:anywhere;min-width:180px;unicode-bidi:plaintext}
.own{font-weight:600}.short{white-space:nowrap}
details{margin-top:12px}
summary{cursor:pointer;color:var(--accent);width:max-content;max-width:100%}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{margin:0;padding:14px;overflow:auto}
.notes{margin:12px 0 0;padding-left:20px;color:var(--soft)}
footer{margin-top:48px;color:var(--soft);font-size:13px}
@media(max-width:560px){.axis text{font-size:19px}th,td{padding:6px 9px}}
@media print{body{background:#fff}.tip,.cursor{display:none}figure,.tiles div{break-inside:avoid}}
`
