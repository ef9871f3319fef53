/**
 * The script of the report: a cursor on every chart that shows the values at a step, by pointer, touch and arrow keys. It makes text
 * nodes only, never markup.
 */
export const script = `
'use strict'
const format = (value) => {
  if (value === null) return 'not finite'
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3)
  return value.toLocaleString('en', { maximumFractionDigits: size < 10 ? 4 : size < 1000 ? 2 : 0 })
}
for (const holder of document.querySelectorAll('.plot')) {
  const svg = holder.querySelector('svg')
  const tip = holder.querySelector('.tip')
  const cursor = svg.querySelector('.cursor')
  const { unit, plot, x: [x0, x1], y: [y0, y1], series } = JSON.parse(holder.querySelector('script').textContent)
  const steps = [...new Set(series.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b)
  const toX = (x) => plot.left + ((x - x0) / (x1 - x0)) * (plot.right - plot.left)
  const toY = (y) => Math.max(plot.top, Math.min(plot.bottom, plot.bottom - ((y - y0) / (y1 - y0)) * (plot.bottom - plot.top)))
  const nearest = (list, x, of) => list.reduce((best, item) => (Math.abs(of(item) - x) < Math.abs(of(best) - x) ? item : best))
  let at
  const hide = () => {
    tip.hidden = true
    cursor.setAttribute('hidden', '')
    at = undefined
  }
  const show = (step) => {
    at = step
    cursor.removeAttribute('hidden')
    const line = cursor.querySelector('line')
    line.setAttribute('x1', toX(step))
    line.setAttribute('x2', toX(step))
    for (const circle of cursor.querySelectorAll('circle')) circle.remove()
    tip.replaceChildren()
    const head = document.createElement('b')
    head.textContent = 'step ' + step.toLocaleString('en')
    tip.append(head)
    for (const { name, color, points } of series) {
      const [x, y] = nearest(points, step, ([px]) => px)
      const row = document.createElement('div')
      row.className = 'c' + color
      const dot = document.createElement('span')
      const away = Math.abs(toX(x) - toX(step)) > 12
      row.append(dot, name + ' ' + format(y) + (unit === '' ? '' : ' ' + unit) + (away ? ' (step ' + x.toLocaleString('en') + ')' : ''))
      tip.append(row)
      if (y === null) continue
      const circle = document.createElementNS('http://www.w3.org/2000/svg', 'circle')
      circle.setAttribute('class', 'c' + color)
      circle.setAttribute('cx', toX(x))
      circle.setAttribute('cy', toY(y))
      circle.setAttribute('r', 4)
      cursor.append(circle)
    }
    tip.hidden = false
    const left = (toX(step) / svg.viewBox.baseVal.width) * svg.clientWidth
    const room = holder.clientWidth - tip.offsetWidth
    tip.style.left = Math.max(0, Math.min(room, left > holder.clientWidth / 2 ? left - tip.offsetWidth - 12 : left + 12)) + 'px'
  }
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect()
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width
    show(nearest(steps, x0 + ((x - plot.left) / (plot.right - plot.left)) * (x1 - x0), (step) => step))
  })
  svg.addEventListener('pointerleave', hide)
  svg.addEventListener('blur', hide)
  svg.addEventListener('keydown', (event) => {
    const last = steps.length - 1
    const index = steps.indexOf(at)
    const jump = Math.max(1, Math.round(steps.length / 50)) * (event.shiftKey ? 5 : 1)
    const next = { ArrowRight: Math.min(last, index + jump), ArrowLeft: index < 0 ? last : Math.max(0, index - jump), Home: 0, End: last }[event.key]
    if (event.key === 'Escape') hide()
    if (next === undefined) return
    event.preventDefault()
    show(steps[next])
  })
}
document.body.dataset.ready = ''
`
