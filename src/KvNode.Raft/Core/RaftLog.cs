namespace KvNode.Raft.Core;

/// <summary>
/// The core's log: the newest entries in memory, older ones by their terms only, the rest compacted away.
/// </summary>
/// <remarks>BeforeFirst &lt;= memory's start &lt;= Last. The driver decides what leaves memory.</remarks>
internal sealed class RaftLog
{
    /// <summary>First entry of each run of equal terms before memory, ascending, from BeforeFirst + 1 on.</summary>
    private readonly List<EntryId> _olderTerms = [];

    /// <summary>In memory: _count entries from _start on, contiguous.</summary>
    private LogEntry[] _entries = new LogEntry[64];
    private int _start;
    private int _count;

    /// <param name="applied">Where the log ends when nothing is in memory: what is not applied is.</param>
    public RaftLog(
        EntryId beforeFirst, IReadOnlyList<EntryId> olderTerms, IReadOnlyList<LogEntry> tail, EntryId applied)
    {
        BeforeFirst = beforeFirst;
        FirstInMemory = tail.Count > 0 ? tail[0].Id.Index : applied.Index + 1;
        Last = beforeFirst;
        foreach (var run in olderTerms)
        {
            Invariant.Check(run.Index == beforeFirst.Index + 1 || _olderTerms.Count > 0);
            Invariant.Check(_olderTerms.Count == 0 || run.Index > _olderTerms[^1].Index);
            Invariant.Check(run.Term >= (_olderTerms.Count == 0 ? beforeFirst.Term : _olderTerms[^1].Term));
            Invariant.Check(run.Index < FirstInMemory);
            _olderTerms.Add(run);
        }

        Invariant.Check(_olderTerms.Count > 0 || FirstInMemory == beforeFirst.Index + 1);
        if (_olderTerms.Count > 0)
        {
            Last = new EntryId(_olderTerms[^1].Term, FirstInMemory - 1);
        }

        foreach (var entry in tail)
        {
            Append(entry);
        }
    }

    /// <summary>The entry before the first one that this node still has.</summary>
    public EntryId BeforeFirst { get; private set; }

    public EntryId Last { get; private set; }

    /// <summary>First index whose entry is in memory; Last.Index + 1 when none is.</summary>
    public ulong FirstInMemory { get; private set; }

    /// <summary>Bytes of what is in memory, by <see cref="LogEntry.Size"/>.</summary>
    public long BytesInMemory { get; private set; }

    /// <summary>Applied and durable up to here, as the core says: what may leave memory.</summary>
    internal ulong Releasable { get; set; }

    /// <summary>False when compacted away or not there yet. True for BeforeFirst.</summary>
    public bool TryTerm(ulong index, out ulong term)
    {
        if (index >= FirstInMemory && index <= Last.Index)
        {
            term = At(index).Id.Term;
            return true;
        }

        term = index == BeforeFirst.Index ? BeforeFirst.Term : 0;
        if (index <= BeforeFirst.Index || index > Last.Index)
        {
            return index == BeforeFirst.Index;
        }

        term = _olderTerms[RunOf(index)].Term;
        return true;
    }

    /// <summary>Entries in memory from an index on, at least one if there is one, up to these bytes. Valid until the next
    /// call into the core.</summary>
    public ReadOnlyMemory<LogEntry> Slice(ulong firstIndex, ulong lastIndex, long bytesMax)
    {
        lastIndex = Math.Min(lastIndex, Last.Index);
        if (firstIndex > lastIndex)
        {
            return default;
        }

        Invariant.Check(firstIndex >= FirstInMemory);
        var from = _start + (int)(firstIndex - FirstInMemory);
        var available = (int)(lastIndex - firstIndex) + 1;
        long bytes = _entries[from].Size;
        var count = 1;
        while (count < available && bytes + _entries[from + count].Size <= bytesMax)
        {
            bytes += _entries[from + count].Size;
            count++;
        }

        return _entries.AsMemory(from, count);
    }

    /// <summary>Lets entries up to an index leave memory; those not yet applied and durable here stay.</summary>
    public void Evict(ulong throughIndex)
    {
        throughIndex = Math.Min(throughIndex, Releasable);
        while (_count > 0 && FirstInMemory <= throughIndex)
        {
            ref var entry = ref _entries[_start];
            var known = _olderTerms.Count > 0 ? _olderTerms[^1].Term : 0;
            if (_olderTerms.Count == 0 || known != entry.Id.Term)
            {
                _olderTerms.Add(entry.Id);
            }

            BytesInMemory -= entry.Size;
            entry = default;
            _start++;
            _count--;
            FirstInMemory++;
        }
    }

    /// <summary>The log on disk now begins after this index (already evicted from memory or evicted by this), which is
    /// applied and durable.</summary>
    public void Compact(ulong throughIndex)
    {
        if (throughIndex <= BeforeFirst.Index)
        {
            return;
        }

        Invariant.Check(throughIndex <= Releasable);
        Evict(throughIndex);
        Invariant.Check(TryTerm(throughIndex, out var term));
        var run = RunOf(throughIndex);
        var next = throughIndex + 1;
        var isRunOver = next == FirstInMemory || (run + 1 < _olderTerms.Count && _olderTerms[run + 1].Index == next);
        _olderTerms.RemoveRange(0, isRunOver ? run + 1 : run);
        if (!isRunOver)
        {
            _olderTerms[0] = new EntryId(term, next);
        }

        BeforeFirst = new EntryId(term, throughIndex);
    }

    /// <summary>The entry at an index that is in memory.</summary>
    internal ref readonly LogEntry At(ulong index)
    {
        Invariant.Check(index >= FirstInMemory);
        Invariant.Check(index <= Last.Index);
        return ref _entries[_start + (int)(index - FirstInMemory)];
    }

    internal bool Matches(EntryId id) => TryTerm(id.Index, out var term) && term == id.Term;

    /// <summary>The last entry up to an index whose term is not above one. The term is 0 where the log does not reach back
    /// that far. An entry that another log has, too, and that is older than what disagrees, is never passed over.</summary>
    internal EntryId LastNotAbove(ulong index, ulong term)
    {
        index = Math.Min(index, Last.Index);
        while (index >= FirstInMemory && At(index).Id.Term > term)
        {
            index--;
        }

        if (index >= FirstInMemory)
        {
            return At(index).Id;
        }

        while (index > BeforeFirst.Index)
        {
            var run = _olderTerms[RunOf(index)];
            if (run.Term <= term)
            {
                return new EntryId(run.Term, index);
            }

            index = run.Index - 1;
        }

        return index == BeforeFirst.Index && BeforeFirst.Term <= term ? BeforeFirst : new EntryId(0, index);
    }

    internal void Append(in LogEntry entry)
    {
        Invariant.Check(entry.Id.Index == Last.Index + 1);
        Invariant.Check(entry.Id.Term >= Last.Term);
        if (_start + _count == _entries.Length)
        {
            MakeRoom();
        }

        _entries[_start + _count++] = entry;
        BytesInMemory += entry.Size;
        Last = entry.Id;
    }

    /// <summary>Drops the entries from an index on; all of them are in memory.</summary>
    internal void Truncate(ulong fromIndex)
    {
        Invariant.Check(fromIndex >= FirstInMemory);
        Invariant.Check(TryTerm(fromIndex - 1, out var term));
        while (Last.Index >= fromIndex && _count > 0)
        {
            ref var entry = ref _entries[_start + --_count];
            BytesInMemory -= entry.Size;
            entry = default;
            Last = new EntryId(0, Last.Index - 1);
        }

        Last = new EntryId(term, fromIndex - 1);
    }

    /// <summary>Drops everything: the log goes on after a snapshot.</summary>
    internal void Restart(EntryId position)
    {
        Array.Clear(_entries, _start, _count);
        _olderTerms.Clear();
        _start = 0;
        _count = 0;
        BytesInMemory = 0;
        BeforeFirst = position;
        Last = position;
        FirstInMemory = position.Index + 1;
    }

    /// <summary>Moves the entries to the array's beginning, or into a larger one when that would not gain half of it.</summary>
    private void MakeRoom()
    {
        var target = _start >= _entries.Length / 2 ? _entries : new LogEntry[_entries.Length * 2];
        Array.Copy(_entries, _start, target, 0, _count);
        if (ReferenceEquals(target, _entries))
        {
            Array.Clear(_entries, _count, _start);
        }

        _entries = target;
        _start = 0;
    }

    /// <summary>The run that an index before memory belongs to.</summary>
    private int RunOf(ulong index)
    {
        var low = 0;
        var high = _olderTerms.Count - 1;
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            if (_olderTerms[middle].Index <= index)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        return low;
    }
}
