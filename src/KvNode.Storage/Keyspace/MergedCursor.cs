namespace KvNode.Storage;

/// <summary>
/// Walks the layers as one ordered keyspace: the smallest key of all layers next (the largest when descending), the
/// newest layer's word on it, deleted keys left out.
/// </summary>
internal sealed class MergedCursor : KeyCursor
{
    private readonly WriteBuffer.Cursor _top;
    private readonly WriteBuffer.Cursor? _flushing;
    private readonly DiskCursor? _disk;
    private readonly byte[] _start;
    private readonly byte[] _end;
    private readonly bool _startExclusive;
    private readonly bool _hasEnd;
    private readonly bool _descending;

    // Which layers stand on a key that has not been passed yet.
    private bool _topLive;
    private bool _flushingLive;
    private bool _diskLive;
    private bool _begun;
    private Layer _current;

    public MergedCursor(WriteBuffer top, WriteBuffer? flushing, DiskReader? disk, ulong sequence, in KeyRange range)
    {
        _start = range.Start.ToArray();
        _end = range.End.ToArray();
        _startExclusive = range.StartExclusive;
        _hasEnd = range.HasEnd;
        _descending = range.Descending;
        _top = top.OpenCursor(sequence);
        _flushing = flushing?.OpenCursor(sequence);
        _disk = disk?.OpenCursor();
    }

    private enum Layer : byte
    {
        None,
        Top,
        Flushing,
        Disk,
    }

    public override ReadOnlySpan<byte> Key => KeyOf(_current);

    public override ReadOnlySpan<byte> Value => Stored[1..];

    public override ValueTag Tag => (ValueTag)Stored[0];

    /// <summary>The value with its tag byte.</summary>
    public ReadOnlySpan<byte> Stored => _current switch
    {
        Layer.Top => _top.Value,
        Layer.Flushing => _flushing!.Value,
        Layer.Disk => _disk!.Value,
        _ => throw new InvalidOperationException("the cursor stands on no key"),
    };

    public override bool MoveNext()
    {
        while (true)
        {
            if (_begun)
            {
                PassCurrentKey();
            }
            else
            {
                SeekAll();
                _begun = true;
            }

            _current = Nearest();
            if (_current == Layer.None || PastEnd(KeyOf(_current)))
            {
                _topLive = _flushingLive = _diskLive = false;
                _current = Layer.None;
                return false;
            }

            var deleted = _current == Layer.Top ? _top.IsTombstone : _current == Layer.Flushing && _flushing!.IsTombstone;
            if (!deleted)
            {
                return true;
            }
        }
    }

    protected override void Dispose(bool disposing)
    {
        _top.Dispose();
        _flushing?.Dispose();
        _disk?.Dispose();
    }

    private ReadOnlySpan<byte> KeyOf(Layer layer) => layer switch
    {
        Layer.Top => _top.Key,
        Layer.Flushing => _flushing!.Key,
        Layer.Disk => _disk!.Key,
        _ => throw new InvalidOperationException("the cursor stands on no key"),
    };

    private void SeekAll()
    {
        if (_descending)
        {
            _topLive = _hasEnd ? _top.SeekBefore(_end) : _top.SeekLast();
            _flushingLive = _flushing is not null && (_hasEnd ? _flushing.SeekBefore(_end) : _flushing.SeekLast());
            _diskLive = _disk is not null && (_hasEnd ? _disk.SeekBefore(_end) : _disk.SeekLast());
            return;
        }

        _topLive = _top.SeekAtOrAfter(_start);
        _flushingLive = _flushing is not null && _flushing.SeekAtOrAfter(_start);
        _diskLive = _disk is not null && _disk.SeekAtOrAfter(_start);
        if (_startExclusive)
        {
            PassKey(_start);
        }
    }

    // The layer whose key comes next; of equal keys the newest layer's.
    private Layer Nearest()
    {
        var nearest = _topLive ? Layer.Top : Layer.None;
        if (_flushingLive && (nearest == Layer.None || ComesBefore(_flushing!.Key, KeyOf(nearest))))
        {
            nearest = Layer.Flushing;
        }

        if (_diskLive && (nearest == Layer.None || ComesBefore(_disk!.Key, KeyOf(nearest))))
        {
            nearest = Layer.Disk;
        }

        return nearest;
    }

    private bool ComesBefore(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right)
    {
        var order = left.SequenceCompareTo(right);
        return _descending ? order > 0 : order < 0;
    }

    private bool PastEnd(ReadOnlySpan<byte> key)
    {
        if (!_descending)
        {
            return _hasEnd && key.SequenceCompareTo(_end) >= 0;
        }

        var order = key.SequenceCompareTo(_start);
        return order < 0 || (order == 0 && _startExclusive);
    }

    // Moves every layer that stands on the current key; the current layer last, for its key is the one compared with.
    private void PassCurrentKey()
    {
        if (_current == Layer.None)
        {
            return;
        }

        var key = KeyOf(_current);
        if (_current != Layer.Top && _topLive && _top.Key.SequenceEqual(key))
        {
            _topLive = StepTop();
        }

        if (_current != Layer.Flushing && _flushingLive && _flushing!.Key.SequenceEqual(key))
        {
            _flushingLive = StepFlushing();
        }

        if (_current != Layer.Disk && _diskLive && _disk!.Key.SequenceEqual(key))
        {
            _diskLive = StepDisk();
        }

        switch (_current)
        {
            case Layer.Top:
                _topLive = StepTop();
                break;
            case Layer.Flushing:
                _flushingLive = StepFlushing();
                break;
            default:
                _diskLive = StepDisk();
                break;
        }
    }

    private void PassKey(ReadOnlySpan<byte> key)
    {
        if (_topLive && _top.Key.SequenceEqual(key))
        {
            _topLive = StepTop();
        }

        if (_flushingLive && _flushing!.Key.SequenceEqual(key))
        {
            _flushingLive = StepFlushing();
        }

        if (_diskLive && _disk!.Key.SequenceEqual(key))
        {
            _diskLive = StepDisk();
        }
    }

    private bool StepTop() => _descending ? _top.MovePrevious() : _top.MoveNext();

    private bool StepFlushing() => _descending ? _flushing!.MovePrevious() : _flushing!.MoveNext();

    private bool StepDisk() => _descending ? _disk!.MovePrevious() : _disk!.MoveNext();
}
