namespace KvNode.Storage;

/// <summary>
/// The order of a write buffer's keys: sorted runs of growing size, and a short unsorted tail.
/// </summary>
/// <remarks>
/// <para>The writer appends every new key and sorts as it goes: each <see cref="SmallRun"/> keys make a run, and each
/// eight runs of one size are sorted into one of the next, up to <see cref="LargeRun"/>. So a reader has a few dozen
/// runs to merge, the writer never pauses for long, and a key costs about 0.2 us over all.</para>
/// <para>Readers take the published runs first and the count afterwards; whatever is behind the runs is
/// tail, which they sort for themselves.</para>
/// </remarks>
internal sealed unsafe class BufferOrder(Arena arena)
{
    public const int SmallRun = 512;
    public const int LargeRun = SmallRun * 64;
    private const int Fan = 8;
    private const int ChunkKeys = 4096;

    // Keys in the order they came, in chunks that never move.
    private nint[] _chunks = new nint[16];
    private int _count;
    private int _sorted;
    private volatile Run[] _runs = [];
    private ulong[] _windows = new ulong[SmallRun];

    /// <summary>A sorted stretch of pointers to keys.</summary>
    internal readonly record struct Run(nint Keys, int Count)
    {
        public ReadOnlySpan<nint> Span => new((void*)Keys, Count);
    }

    /// <summary>Keys so far.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>Adds a key that is not here yet. Writer only.</summary>
    public void Add(BufferKey* key)
    {
        var chunk = _count / ChunkKeys;
        if (_count % ChunkKeys == 0)
        {
            AddChunk(chunk);
        }

        ((nint*)_chunks[chunk])[_count % ChunkKeys] = (nint)key;
        Volatile.Write(ref _count, _count + 1);
        if (_count - _sorted == SmallRun)
        {
            SortTail();
        }
    }

    /// <summary>The sorted runs, and a copy of the keys behind them, sorted too. Any thread.</summary>
    public Run[] Snapshot(out nint[] tail)
    {
        var runs = _runs;
        var sorted = 0;
        foreach (var run in runs)
        {
            sorted += run.Count;
        }

        tail = CopyOfKeys(sorted, Count);
        KeySorter.Sort(tail, new ulong[tail.Length]);
        return runs;
    }

    /// <summary>All keys in order. Writer, or when nothing is written any more.</summary>
    public nint[] SortAll()
    {
        var keys = CopyOfKeys(0, Count);
        KeySorter.Sort(keys, new ulong[keys.Length]);
        return keys;
    }

    private void AddChunk(int chunk)
    {
        if (chunk == _chunks.Length)
        {
            // Readers keep the array they have: it holds all chunks they may look into.
            var larger = new nint[chunk * 2];
            _chunks.CopyTo(larger, 0);
            Volatile.Write(ref _chunks, larger);
        }

        _chunks[chunk] = (nint)arena.Allocate(ChunkKeys * sizeof(nint));
    }

    private nint[] CopyOfKeys(int from, int to)
    {
        var chunks = Volatile.Read(ref _chunks);
        var keys = new nint[to - from];
        for (var i = from; i < to; i++)
        {
            keys[i - from] = ((nint*)chunks[i / ChunkKeys])[i % ChunkKeys];
        }

        return keys;
    }

    private void SortTail()
    {
        var keys = new Span<nint>(arena.Allocate(SmallRun * sizeof(nint)), SmallRun);
        for (var i = 0; i < SmallRun; i++)
        {
            var at = _sorted + i;
            keys[i] = ((nint*)_chunks[at / ChunkKeys])[at % ChunkKeys];
        }

        KeySorter.Sort(keys, _windows);
        _sorted += SmallRun;
        Publish([.. _runs, RunOf(keys)]);
    }

    // Whenever the last eight runs have one size, one run of them all takes their place.
    private void Publish(Run[] runs)
    {
        while (runs.Length >= Fan && runs[^1].Count < LargeRun && runs[^Fan].Count == runs[^1].Count)
        {
            var total = runs[^1].Count * Fan;
            var keys = new Span<nint>(arena.Allocate((long)total * sizeof(nint)), total);
            for (var i = 0; i < Fan; i++)
            {
                runs[runs.Length - Fan + i].Span.CopyTo(keys[(i * runs[^1].Count)..]);
            }

            if (_windows.Length < total)
            {
                _windows = new ulong[total];
            }

            KeySorter.Sort(keys, _windows);
            runs = [.. runs[..^Fan], RunOf(keys)];
        }

        _runs = runs;
    }

    private static Run RunOf(Span<nint> keys)
    {
        fixed (nint* pointer = keys)
        {
            return new Run((nint)pointer, keys.Length);
        }
    }
}
