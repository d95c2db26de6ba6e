namespace KvNode.Raft.Core;

/// <summary>
/// The way to the disk and to the state machine. Persists are numbered; an entry is durable when the last persist that
/// wrote its index is. So no answer of the disk can be mistaken for one about other entries at the same indices.
/// </summary>
internal sealed partial class RaftCore
{
    /// <summary>Handed out and not reported, oldest first.</summary>
    private readonly Queue<Written> _underWay = new();

    /// <summary>Last persist handed out, and last reported.</summary>
    private ulong _sequence;
    private ulong _completed;

    /// <summary>Term or vote changed since the last persist; which one carries them.</summary>
    private bool _isHardStateNew;
    private ulong _hardStateSequence;

    /// <summary>Last index in a persist; entries behind it go into the next one.</summary>
    private ulong _handedOut;

    /// <summary>Entries from here on were in a persist and are void; 0 for none.</summary>
    private ulong _truncateFrom;

    /// <summary>Last index handed out to be applied, and the size of what is and is not applied yet.</summary>
    private ulong _applying;
    private long _applyingBytes;

    private bool IsHardStateDurable => !_isHardStateNew && _completed >= _hardStateSequence;

    /// <summary>Everything up to this <see cref="PersistRequest.Sequence"/> is durable.</summary>
    public void OnPersisted(ulong sequence)
    {
        Invariant.Check(sequence <= _sequence);
        if (sequence <= _completed)
        {
            return;
        }

        _completed = sequence;
        while (_underWay.Count > 0 && _underWay.Peek().Sequence <= sequence)
        {
            var written = _underWay.Dequeue();
            Durable = Math.Max(Durable, written.Through);
            if (written.Snapshot is { } position)
            {
                OnSnapshotDurable(position);
            }
        }

        Log.Releasable = Math.Min(Applied, Durable);
        CountOwnVote();
        TryCommit();
    }

    /// <summary>The state machine holds everything up to this index. Configuration entries in it come into force.</summary>
    public void OnApplied(ulong index)
    {
        if (index <= Applied)
        {
            return;
        }

        Invariant.Check(index <= _applying);
        // What a snapshot under way replaces is no longer in the log; the snapshot brings its configuration.
        for (var next = Math.Max(Applied + 1, Log.FirstInMemory); next <= index; next++)
        {
            ref readonly var entry = ref Log.At(next);
            _applyingBytes -= entry.Size;
            if (entry.Id.Term == Term && Role == CoreRole.Leader)
            {
                _uncommittedBytes -= CountedBytes(entry);
            }

            if (entry.Kind == EntryKind.Configuration)
            {
                Applied = next;
                ApplyChange(entry.Payload.Span);
            }
        }

        Applied = index;
        Log.Releasable = Math.Min(Applied, Durable);
        EndChange();
    }

    private PersistRequest NextPersist()
    {
        var entries = Log.Slice(_handedOut + 1, Log.Last.Index, long.MaxValue);
        var snapshot = _isSnapshotNew ? _restoring?.Position : null;
        if (entries.IsEmpty && !_isHardStateNew && _truncateFrom == 0 && snapshot is null)
        {
            return default;
        }

        var request = new PersistRequest
        {
            Sequence = ++_sequence,
            HardState = _isHardStateNew ? new HardState(Term, Vote) : null,
            TruncateFrom = _truncateFrom,
            Snapshot = snapshot,
            Entries = entries,
            Commit = Commit,
        };
        NoteHandedOut(request);
        return request;
    }

    private void NoteHandedOut(in PersistRequest request)
    {
        if (_isHardStateNew)
        {
            _isHardStateNew = false;
            _hardStateSequence = request.Sequence;
            _ownVoteSequence = request.Sequence;
        }

        _handedOut = Log.Last.Index;
        _truncateFrom = 0;
        _isSnapshotNew = false;
        _underWay.Enqueue(new Written(request.Sequence, _handedOut, request.Snapshot));
    }

    /// <summary>Entries from an index on disagree with the leader's.</summary>
    private void TruncateFrom(ulong index)
    {
        Log.Truncate(index);
        if (index > _handedOut)
        {
            return;
        }

        // Of several in one turn the last one is the lowest: the first already took back what lies above it.
        _truncateFrom = index;
        ForgetWritten(index - 1);
    }

    /// <summary>What was handed out after an index no longer counts, also when the disk reports it later.</summary>
    private void ForgetWritten(ulong lastIndex)
    {
        _handedOut = lastIndex;
        Durable = Math.Min(Durable, lastIndex);
        for (var left = _underWay.Count; left > 0; left--)
        {
#if PLANTED_BUGS
            if (Planted.Is(Bug.OldWritesCount))
            {
                break;
            }
#endif
            var written = _underWay.Dequeue();
            _underWay.Enqueue(written with { Through = Math.Min(written.Through, lastIndex) });
        }
    }

    /// <summary>Committed, durable here, and within the bytes that may be on their way to the state machine.</summary>
    private ReadOnlyMemory<LogEntry> NextToApply()
    {
        var last = Math.Min(Commit, Durable);
#if PLANTED_BUGS
        last = Planted.Is(Bug.AppliesBeforeDurable) ? Commit : last;
#endif
        var room = _options.ApplyBytesMax - _applyingBytes;
        if (IsRestoring || _applying >= last)
        {
            return default;
        }

        if (_applyingBytes > 0 && Log.At(_applying + 1).Size > room)
        {
            return default;
        }

        var page = Log.Slice(_applying + 1, last, room);
        _applying += (ulong)page.Length;
        _applyingBytes += SizeOf(page.Span);
        return page;
    }

    /// <param name="Through">Last index that is on disk when this is; less when entries became void since.</param>
    private readonly record struct Written(ulong Sequence, ulong Through, EntryId? Snapshot);
}
