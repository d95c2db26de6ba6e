using System.Runtime.InteropServices;

namespace KvNode.Raft.Wal;

/// <summary>A place in a segment from which entries can be read on.</summary>
/// <param name="Index">The entry there.</param>
/// <param name="Offset">Of its frame.</param>
/// <param name="Record">Records of that frame before it.</param>
/// <param name="Jumps">What stands before it in the segment does not lead up to it: the log was cut or restarted in
/// between, or the segment begins here.</param>
internal readonly record struct LogMark(ulong Index, ulong Segment, long Offset, int Record, bool Jumps);

/// <summary>Entries that stand one behind the other in one segment, void ones not between them.</summary>
internal readonly record struct LogPiece(LogMark Start, ulong Last);

/// <summary>
/// Which entries a log has, of which terms, and where on disk they are. Small: one mark each 64 KiB and one for each
/// place where the log was cut, one number pair for each term.
/// </summary>
/// <remarks>
/// Not thread-safe. A mark stands for the indexes up to the next mark (or the end); the last written version of
/// each of them, and no other, is what a reader meets when it goes on from there and looks for one index after the other.
/// </remarks>
internal sealed class LogMap
{
    /// <summary>How much of a segment lies between two marks: the most that is read in vain, but for a frame.</summary>
    public const int MarkEveryBytes = 64 << 10;

    // Many more than an ordinary log needs, so that appending does not make it grow.
    private const int MarksAtFirst = 1024;

    private readonly List<EntryId> _runs;
    private readonly List<LogMark> _marks;
    private bool _jumps;

    public LogMap()
    {
        _runs = [];
        _marks = new List<LogMark>(MarksAtFirst);
    }

    /// <summary>A copy that changes by itself.</summary>
    public LogMap(LogMap other)
    {
        _runs = [.. other._runs];
        _marks = new List<LogMark>(Math.Max(MarksAtFirst, other._marks.Count));
        _marks.AddRange(other._marks);
        _jumps = other._jumps;
        BeforeFirst = other.BeforeFirst;
        Last = other.Last;
    }

    /// <summary>The last entry that is not there any more.</summary>
    public EntryId BeforeFirst { get; private set; }

    /// <summary>The last entry; equal to <see cref="BeforeFirst"/> when there is none.</summary>
    public EntryId Last { get; private set; }

    /// <summary>The first entry of each run of equal terms.</summary>
    public IReadOnlyList<EntryId> TermRuns => _runs;

    /// <summary>Changes with each <see cref="Restart"/>: what was read of the log before has no part in it now.</summary>
    public int Generation { get; private set; }

    /// <summary>Places remembered. For tests of the bound.</summary>
    public int MarkCount => _marks.Count;

    /// <summary>False when the entry is not there. True for <see cref="BeforeFirst"/>.</summary>
    public bool TryTerm(ulong index, out ulong term)
    {
        term = BeforeFirst.Term;
        if (index <= BeforeFirst.Index || index > Last.Index)
        {
            return index == BeforeFirst.Index;
        }

        var (low, high) = (0, _runs.Count - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = _runs[middle].Index <= index ? (middle, high) : (low, middle - 1);
        }

        term = _runs[low].Term;
        return true;
    }

    /// <summary>Whether exactly this entry is there or is <see cref="BeforeFirst"/>.</summary>
    public bool Contains(EntryId entry) => TryTerm(entry.Index, out var term) && term == entry.Term;

    /// <summary>The next record of the log. It must be valid after those before it.</summary>
    public void Apply(in WalRecord record, ulong segment, long frameOffset, int ordinal)
    {
        switch (record.Kind)
        {
            case RecordKind.Entry:
                Add(record.Id, segment, frameOffset, ordinal);
                break;
            case RecordKind.Truncate:
                Truncate(record.Id.Index, record.Id.Term);
                break;
            case RecordKind.SnapshotMarker:
                Restart(record.Id);
                break;
            default:
                break;
        }
    }

    /// <summary>The log begins after this entry and is empty.</summary>
    public void Restart(EntryId position)
    {
        Generation++;
        BeforeFirst = Last = position;
        _runs.Clear();
        _marks.Clear();
        _jumps = true;
    }

    /// <summary>A segment, the oldest one, is given up.</summary>
    public void Forget(ulong segment)
    {
        var gone = 0;
        while (gone < _marks.Count && _marks[gone].Segment <= segment)
        {
            gone++;
        }

        if (gone == 0)
        {
            return;
        }

        _marks.RemoveRange(0, gone);
        var last = _marks.Count == 0 ? Last.Index : _marks[0].Index - 1;
        Invariant.Check(TryTerm(last, out var term));
        BeforeFirst = new EntryId(term, last);
        var runs = 0;
        while (runs + 1 < _runs.Count && _runs[runs + 1].Index <= last + 1)
        {
            runs++;
        }

        _runs.RemoveRange(0, runs);
        if (last == Last.Index)
        {
            _runs.Clear();
        }
        else if (_runs[0].Index <= last)
        {
            _runs[0] = _runs[0] with { Index = last + 1 };
        }
    }

    /// <summary>Where the entries from first to last are, as far as they are there. None when first is not there.</summary>
    public List<LogPiece> Find(ulong first, ulong last)
    {
        var pieces = new List<LogPiece>();
        last = Math.Min(last, Last.Index);
        if (first <= BeforeFirst.Index || first > last)
        {
            return pieces;
        }

        for (var i = MarkOf(first); i < _marks.Count && _marks[i].Index <= last; i++)
        {
            var end = Math.Min(last, i + 1 < _marks.Count ? _marks[i + 1].Index - 1 : Last.Index);
            if (_marks[i].Jumps || pieces.Count == 0)
            {
                pieces.Add(new LogPiece(_marks[i], end));
            }
            else
            {
                CollectionsMarshal.AsSpan(pieces)[^1] = pieces[^1] with { Last = end };
            }
        }

        return pieces;
    }

    private void Add(EntryId entry, ulong segment, long frameOffset, int ordinal)
    {
        if (_runs.Count == 0 || _runs[^1].Term != entry.Term)
        {
            _runs.Add(entry);
        }

        var jumps = _jumps || _marks.Count == 0 || _marks[^1].Segment != segment;
        if (jumps || frameOffset - _marks[^1].Offset >= MarkEveryBytes)
        {
            _marks.Add(new LogMark(entry.Index, segment, frameOffset, ordinal, jumps));
        }

        _jumps = false;
        Last = entry;
    }

    private void Truncate(ulong from, ulong termBefore)
    {
        if (from > Last.Index)
        {
            return;
        }

        if (from <= BeforeFirst.Index)
        {
            // What this cuts into went with older segments; all that is left of it is void.
            Restart(new EntryId(termBefore, from - 1));
            return;
        }

        var marks = _marks.Count;
        while (marks > 0 && _marks[marks - 1].Index >= from)
        {
            marks--;
        }

        _marks.RemoveRange(marks, _marks.Count - marks);
        var runs = _runs.Count;
        while (runs > 0 && _runs[runs - 1].Index >= from)
        {
            runs--;
        }

        _runs.RemoveRange(runs, _runs.Count - runs);
        Last = new EntryId(termBefore, from - 1);
        _jumps = true;
    }

    /// <summary>The last mark that is not behind an index.</summary>
    private int MarkOf(ulong index)
    {
        var (low, high) = (0, _marks.Count - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = _marks[middle].Index <= index ? (middle, high) : (low, middle - 1);
        }

        return low;
    }
}
