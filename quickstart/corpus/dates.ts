/** Weekdays, dates and clock times, one rendering each in German and English. */
import { englishCardinal, englishOrdinal, germanBound, germanCardinal, germanOrdinal } from './numbers.js'

/** The same words in both languages. */
export interface Pair {
  readonly de: string
  readonly en: string
}

function table(text: string): readonly Pair[] {
  return text.split(' ').map((entry) => {
    const [de = '', en = de] = entry.split('=')
    return { de, en }
  })
}

/** The first entry is Monday. */
export const weekdays = table(
  'Montag=Monday Dienstag=Tuesday Mittwoch=Wednesday Donnerstag=Thursday Freitag=Friday Samstag=Saturday Sonntag=Sunday',
)

/** The first entry is January. */
export const months = table(
  'Januar=January Februar=February März=March April Mai=May Juni=June Juli=July August September Oktober=October November Dezember=December',
)

const daysOfMonth = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** Days of the month (1 to 12) in a year that is not a leap year. */
export function lastDayOf(month: number): number {
  const days = daysOfMonth[month - 1]
  if (days === undefined) throw new RangeError(`there is no month ${month}`)
  return days
}

function monthName(month: number): Pair {
  const name = months[month - 1]
  if (name === undefined) throw new RangeError(`there is no month ${month}`)
  return name
}

/** "den dritten Mai" / "the third of May". */
export function calendarDay(day: number, month: number): Pair {
  const name = monthName(month)
  return { de: `den ${germanOrdinal(day)}n ${name.de}`, en: `the ${englishOrdinal(day)} of ${name.en}` }
}

/** "am dritten Mai 1987" / "on the third of May 1987"; the year, written in digits, may be left out. */
export function onDate(day: number, month: number, year?: number): Pair {
  const name = monthName(month)
  const tail = year === undefined ? '' : ` ${year}`
  return { de: `am ${germanOrdinal(day)}n ${name.de}${tail}`, en: `on the ${englishOrdinal(day)} of ${name.en}${tail}` }
}

/**
 * A time on the twelve-hour clock: `minute` is 0, 30, or the minutes 5, 10, 15, 20 past (40, 45, 50, 55: to) the hour.
 * 7:30 is "halb acht" / "half past seven", 7:45 "Viertel vor acht" / "a quarter to eight".
 */
export function clockTime(hour: number, minute: number): Pair {
  const next = (hour % 12) + 1
  if (minute === 0) return { de: `${germanBound(hour)} Uhr`, en: `${englishCardinal(hour)} o'clock` }
  if (minute === 30) return { de: `halb ${germanCardinal(next)}`, en: `half past ${englishCardinal(hour)}` }
  if (minute < 30) {
    const { de, en } = minutes(minute)
    return { de: `${de} nach ${germanCardinal(hour)}`, en: `${en} past ${englishCardinal(hour)}` }
  }
  const { de, en } = minutes(60 - minute)
  return { de: `${de} vor ${germanCardinal(next)}`, en: `${en} to ${englishCardinal(next)}` }
}

/** The minutes that {@link clockTime} is used with. */
export const clockMinutes = [0, 5, 10, 15, 20, 30, 40, 45, 50, 55] as const

function minutes(count: number): Pair {
  return count === 15 ? { de: 'Viertel', en: 'a quarter' } : { de: germanCardinal(count), en: englishCardinal(count) }
}
