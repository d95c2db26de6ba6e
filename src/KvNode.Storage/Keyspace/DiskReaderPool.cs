using System.Diagnostics.CodeAnalysis;

namespace KvNode.Storage;

/// <summary>Every reader slot is rented. Readers are held too long, or by too many at once.</summary>
internal sealed class ReadersExhaustedException(int readersMax)
    : InvalidOperationException($"all {readersMax} disk readers are in use");

/// <summary>Keeps read transactions between uses, and can take all of them in: that is the gate for growing the map.</summary>
/// <remarks>
/// <para>Any thread. Renting is one atomic exchange on the thread's own slot, returning one compare-exchange: no counter
/// that all threads write. Nothing asks "may I read?"; instead the one who must exclude readers takes every reader
/// there is, and who finds none waits in the slow path.</para>
/// <para>Invariant: every reader created is rented, in a fast slot, or in <c>_idle</c>.</para>
/// </remarks>
internal sealed class DiskReaderPool
{
    private const int FastSlots = 64;
    private const int SlotStride = 16; // references per slot: two cache lines, so that neighbours do not share one
    private const int CloseLookAgainMs = 1;

    private readonly DiskReader?[] _fast = new DiskReader?[FastSlots * SlotStride];
    private readonly Stack<DiskReader> _idle = [];
    private readonly object _gate = new();
    private readonly int _readersMax;
    private readonly Func<DiskReader> _create;
    private volatile bool _closed;
    private volatile bool _retired;
    private string? _closedForEver;

    // Owed once the last reader of a retired pool is gone.
    private Action? _whenEmpty;
    private int _created;

    /// <param name="readersMax">Most readers that may exist.</param>
    /// <param name="create">Begins a new reader; called under the pool's lock.</param>
    public DiskReaderPool(int readersMax, Func<DiskReader> create)
    {
        _readersMax = readersMax;
        _create = create;
    }

    /// <summary>Readers rented at this moment.</summary>
    public int InUse
    {
        get
        {
            lock (_gate)
            {
                var resting = _idle.Count;
                for (var i = 0; i < _fast.Length; i += SlotStride)
                {
                    resting += Volatile.Read(ref _fast[i]) is null ? 0 : 1;
                }

                return Math.Max(0, _created - resting);
            }
        }
    }

    /// <summary>A reader on the newest snapshot; null when the pool is retired.</summary>
    /// <exception cref="ReadersExhaustedException">All are rented.</exception>
    /// <exception cref="ObjectDisposedException">The store is closed.</exception>
    public DiskReader? TryRent()
    {
        var reader = Interlocked.Exchange(ref OwnSlot(), null) ?? RentSlowly();
        if (reader is null)
        {
            return null;
        }

        try
        {
            reader.Begin();
            return reader;
        }
        catch
        {
            Discard(reader);
            throw;
        }
    }

    /// <exception cref="InvalidOperationException">Already returned, or a cursor of it is not disposed; a reader with
    /// cursors stays rented.</exception>
    public void Return(DiskReader reader)
    {
        reader.End();
        if (_closed || Interlocked.CompareExchange(ref OwnSlot(), reader, null) is not null)
        {
            lock (_gate)
            {
                _idle.Push(reader);
                DestroyIdleIfRetired();
                Monitor.PulseAll(_gate);
            }
        }
        else if (_retired)
        {
            // Retired between the two: either its sweep of the slots has found this reader, or this look finds it.
            lock (_gate)
            {
                DestroyIdleIfRetired();
            }
        }
    }

    /// <summary>No reader is created any more; those that are out stay good until they come back. Once.</summary>
    /// <param name="whenEmpty">Called when none exists any more, under the pool's lock, by whoever returned the last: must
    /// not block.</param>
    public void Retire(Action whenEmpty)
    {
        lock (_gate)
        {
            _whenEmpty = whenEmpty;
            _retired = true;
            _closed = true;
            Interlocked.MemoryBarrier();
            DestroyIdleIfRetired();
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Stops renting, waits for every reader to come back, and frees them all. Until <see cref="Reopen"/> or
    /// <see cref="CloseForEver"/> no reader exists and whoever rents waits.</summary>
    /// <returns>False when some did not come back in time; renting then goes on as before.</returns>
    public bool TryTakeAll(TimeSpan waitMax)
    {
        var deadline = Environment.TickCount64 + (long)waitMax.TotalMilliseconds;
        lock (_gate)
        {
            _closed = true;
            while (true)
            {
                SweepFastSlots();
                if (_idle.Count == _created)
                {
                    break;
                }

                if (Environment.TickCount64 >= deadline)
                {
                    _closed = false;
                    Monitor.PulseAll(_gate);
                    return false;
                }

                // A reader that was being returned when the gate closed may still land in a fast slot, without a pulse.
                _ = Monitor.Wait(_gate, CloseLookAgainMs);
            }

            while (_idle.TryPop(out var reader))
            {
                reader.Destroy();
            }

            _created = 0;
            return true;
        }
    }

    /// <summary>Lets readers be rented again, created anew.</summary>
    public void Reopen()
    {
        lock (_gate)
        {
            _closed = false;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Whoever rents from now on, or is waiting to, is told why not.</summary>
    public void CloseForEver(string reason)
    {
        lock (_gate)
        {
            _closed = true;
            _closedForEver = reason;
            Monitor.PulseAll(_gate);
        }
    }

    private ref DiskReader? OwnSlot() => ref _fast[(Environment.CurrentManagedThreadId & (FastSlots - 1)) * SlotStride];

    private DiskReader? RentSlowly()
    {
        lock (_gate)
        {
            while (_closed)
            {
                if (_retired)
                {
                    return null;
                }

                if (_closedForEver is not null)
                {
                    throw new ObjectDisposedException(nameof(DiskKeyspace), _closedForEver);
                }

                _ = Monitor.Wait(_gate);
            }

            if (_idle.TryPop(out var reader))
            {
                return reader;
            }

            if (_created < _readersMax)
            {
                reader = _create();
                _created++;
                return reader;
            }

            SweepFastSlots();
            return _idle.TryPop(out reader) ? reader : ThrowExhausted();
        }
    }

    private void Discard(DiskReader reader)
    {
        lock (_gate)
        {
            reader.Destroy();
            _created--;
            DestroyIdleIfRetired();
            Monitor.PulseAll(_gate);
        }
    }

    private void DestroyIdleIfRetired()
    {
        if (!_retired)
        {
            return;
        }

        SweepFastSlots();
        while (_idle.TryPop(out var reader))
        {
            reader.Destroy();
            _created--;
        }

        if (_created == 0 && _whenEmpty is { } tell)
        {
            _whenEmpty = null;
            tell();
        }
    }

    private void SweepFastSlots()
    {
        for (var i = 0; i < _fast.Length; i += SlotStride)
        {
            if (Interlocked.Exchange(ref _fast[i], null) is { } reader)
            {
                _idle.Push(reader);
            }
        }
    }

    [DoesNotReturn]
    private DiskReader ThrowExhausted() => throw new ReadersExhaustedException(_readersMax);
}
