using System.Diagnostics;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

// The flush thread: seals the active buffer when it is full or old, writes it to LMDB in key order in one
// transaction, takes it out of the layers.
public sealed partial class Store
{
    // Both generations may be a little over; past this the applying thread waits for the flush.
    private const double HardLimitFactor = 1.5;

    private DurableState _durable;

    // What LMDB will hold after the flush in progress, or holds after the last one.
    private DurableState _sealedState;
    private bool _sealRequested;
    private bool _stopping;
    private bool _flushThreadEnded;

    // True from before the flush thread seals until what it sealed is on disk, or given up for a swap.
    private bool _flushing;

    // True while an install takes the place of all layers: nothing may be sealed or flushed.
    private bool _swapping;
    private string? _flushError;
    private long _flushes;
    private long _flushMicroseconds;
    private long _lastFlushUnixMs;

    /// <summary>
    /// Why new writes should be refused now: the disk is full and the buffer cannot be emptied. Null when all is well.
    /// What is already committed must still be applied; only new proposals are refused.
    /// </summary>
    public string? WriteRefusal =>
        Volatile.Read(ref _flushError) is { } error && _layers.Active.Bytes >= _options.WriteBufferBytes / 2 ? error : null;

    /// <summary>A buffer is full while the one before it is still being flushed: some more, and a batch waits until it is.</summary>
    public bool BatchMayWait =>
        _layers is { Sealed: not null, Active: var active } && active.Bytes >= _options.WriteBufferBytes;

    private DurableState Durable
    {
        get
        {
            lock (_gate)
            {
                return _durable;
            }
        }
    }

    private void WaitForRoom()
    {
        var layers = _layers;
        if (layers.Sealed is null || layers.Active.Bytes < _options.WriteBufferBytes * HardLimitFactor)
        {
            return;
        }

        lock (_gate)
        {
            // With the disk full the flush does not progress. New proposals are refused then, and the few that are
            // already committed are applied over the limit: they are bounded by what the engine has in flight.
            while (_layers.Sealed is not null && _flushError is null && !_flushThreadEnded)
            {
                Monitor.Wait(_gate);
            }
        }
    }

    private void RequestSeal()
    {
        lock (_gate)
        {
            if (!_sealRequested)
            {
                _sealRequested = true;
                Monitor.PulseAll(_gate);
            }
        }
    }

    private void FlushAndWait()
    {
        var target = ReadPublished().Index;
        lock (_gate)
        {
            while (_durable.State.Index < target)
            {
                ObjectDisposedException.ThrowIf(_flushThreadEnded, this);
                _sealRequested = true;
                Monitor.PulseAll(_gate);
                Monitor.Wait(_gate);
                if (_flushError is { } error)
                {
                    throw new IOException(error);
                }
            }
        }
    }

    /// <returns>False when it was stopped before.</returns>
    private bool StopFlushing()
    {
        lock (_gate)
        {
            if (_stopping)
            {
                return false;
            }

            _stopping = true;
            Monitor.PulseAll(_gate);
        }

        _flushThread.Join();
        return true;
    }

    private void RunFlushes()
    {
        try
        {
            while (NextSealed() is { } buffer)
            {
                FlushUntilDone(buffer);
            }
        }
        catch (Exception e) when (e is not StopRetryingException)
        {
            _options.Fatal(e);
        }
        catch (StopRetryingException)
        {
            // Stopping with a full disk: what is not flushed stays in the log.
        }
        finally
        {
            lock (_gate)
            {
                _flushThreadEnded = true;
                _flushing = false;
                Monitor.PulseAll(_gate);
            }
        }
    }

    // Waits until there is something to flush; null when stopping and everything is flushed.
    private WriteBuffer? NextSealed()
    {
        while (true)
        {
            lock (_gate)
            {
                if (!_sealRequested && !_stopping)
                {
                    Monitor.Wait(_gate, _options.FlushInterval);
                }

                _sealRequested = false;
                while (_swapping)
                {
                    if (_stopping)
                    {
                        return null;
                    }

                    _ = Monitor.Wait(_gate);
                }

                _flushing = true;
            }

            if (TrySeal() is { } buffer)
            {
                return buffer;
            }

            lock (_gate)
            {
                _flushing = false;
                if (_stopping)
                {
                    return null;
                }

                // Somebody may wait for a checkpoint of entries that changed nothing.
                Monitor.PulseAll(_gate);
            }
        }
    }

    private WriteBuffer? TrySeal()
    {
        lock (_batchLock)
        {
            if (_layers.Sealed is { } left)
            {
                // Its flush was given up for a swap that then did not take place.
                return left;
            }

            var active = _layers.Active;
            var durable = Durable;
            if (_published.Index == durable.State.Index)
            {
                return null;
            }

            var fresh = new WriteBuffer(clearsBelow: false);
            lock (_gate)
            {
                _sealedState = durable with { State = _published, EngineState = _publishedEngine.ToArray() };
                _layers = new Layers(fresh, active, _layers.Disk);
            }

            return active;
        }
    }

    private void FlushUntilDone(WriteBuffer buffer)
    {
        _options.EnsureLogDurable?.Invoke(_sealedState.State.Index);
        var began = Stopwatch.GetTimestamp();
        while (!TryFlush(buffer))
        {
            lock (_gate)
            {
                if (_stopping)
                {
                    throw new StopRetryingException();
                }

                Monitor.PulseAll(_gate);
                if (_swapping)
                {
                    _flushing = false;
                    _sealRequested = true;
                    return;
                }

                Monitor.Wait(_gate, _options.RetryInterval);
            }
        }

        lock (_gate)
        {
            _durable = _sealedState;
            _flushError = null;
            _flushing = false;
            _flushes++;
            _flushMicroseconds += (long)Stopwatch.GetElapsedTime(began).TotalMicroseconds;
            _lastFlushUnixMs = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
            _layers = _layers with { Sealed = null };
            Monitor.PulseAll(_gate);
        }

        buffer.Release();
    }

    /// <summary>For tests: called before each attempt to flush; what it throws happens there.</summary>
    internal Action? FlushFailpoint { get; set; }

    // False when the disk is full: nothing changed, it may be tried again.
    private bool TryFlush(WriteBuffer buffer)
    {
        try
        {
            FlushFailpoint?.Invoke();
            while (!TryWriteToDisk(buffer))
            {
                _layers.Disk.GrowMap();
            }

            return true;
        }
        catch (DiskFullException e)
        {
            lock (_gate)
            {
                _flushError = e.Message;
            }

            return false;
        }
    }

    // False when the map was full: nothing changed.
    private bool TryWriteToDisk(WriteBuffer buffer)
    {
        try
        {
            WriteToDisk(buffer);
            return true;
        }
        catch (MapFullException)
        {
            return false;
        }
    }

    private void WriteToDisk(WriteBuffer buffer)
    {
        var writer = _layers.Disk.BeginWrite();
        try
        {
            if (buffer.ClearsBelow)
            {
                writer.Clear();
            }

            var records = buffer.OpenFlush();
            while (records.MoveNext())
            {
                if (records.IsTombstone)
                {
                    writer.Delete(records.Key);
                }
                else
                {
                    writer.Put(records.Key, records.Value);
                }
            }

            var state = _sealedState.State;
            writer.SetState(
                new DiskState
                {
                    AppliedIndex = state.Index,
                    AppliedTerm = state.Term,
                    Count = state.Count,
                    ClockMs = state.ClockMs,
                    InstalledIndex = _sealedState.InstalledIndex,
                    InstalledTerm = _sealedState.InstalledTerm,
                },
                _sealedState.EngineState);
            writer.Commit();
        }
        catch
        {
            writer.Abort();
            throw;
        }
    }

    private sealed class StopRetryingException : Exception;
}
