using System.Buffers.Binary;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

/// <summary>Walks every key of one <see cref="DiskReader"/>'s picture in byte order, both ways.</summary>
/// <remarks>
/// <para>One thread at a time; dispose before the reader is returned. <see cref="Key"/> and <see cref="Value"/> are valid
/// until the next move. After a move or seek that answered false the cursor is on no key, and moves answer false until
/// a seek succeeds.</para>
/// <para>The empty key, which lives in <c>sys</c>, comes first. Two LMDB cursors do the rest: one stays in <c>d</c>, on
/// the link when the walk is inside a bucket; one serves all buckets and finds its way back up by the link's key, which
/// is rebuilt from the assembled user key.</para>
/// </remarks>
internal sealed class DiskCursor : IDisposable
{
    private enum Place
    {
        None,
        EmptyKey,
        Record,
    }

    private readonly DiskReader _reader;
    private readonly LmdbCursor _keys;
    private LmdbCursor? _buckets;

    // Inside buckets: the ids from the outermost to the current one, and the user key assembled so far.
    private ulong[] _path = [];
    private byte[] _key = [];
    private int _keyLength;
    private int _depth;
    private Place _place;
    private bool _disposed;

    public DiskCursor(DiskReader reader)
    {
        _reader = reader;
        _keys = reader.OpenKeyCursor();
    }

    /// <summary>The whole user key.</summary>
    public ReadOnlySpan<byte> Key => _place switch
    {
        Place.Record => _depth == 0 ? _keys.Key : _key.AsSpan(0, _keyLength),
        Place.EmptyKey => default,
        _ => throw NotOnAKey(),
    };

    /// <summary>The value as stored, tag byte first.</summary>
    public ReadOnlySpan<byte> Value => _place switch
    {
        Place.Record => _depth == 0 ? _keys.Value : _buckets!.Value,
        Place.EmptyKey => _reader.TryGet(default, out var value) ? value : default,
        _ => throw NotOnAKey(),
    };

    public bool SeekFirst()
    {
        if (_reader.TryGet(default, out _))
        {
            _place = Place.EmptyKey;
            return true;
        }

        return FirstRecord();
    }

    public bool SeekLast()
    {
        _depth = 0;
        return _keys.Move(LmdbCursorOperation.Last) ? LandBackward() : TurnToEmptyKey();
    }

    /// <summary>Goes to the least key that is equal to <paramref name="key"/> or greater.</summary>
    public bool SeekAtOrAfter(ReadOnlySpan<byte> key)
    {
        if (key.IsEmpty)
        {
            return SeekFirst();
        }

        _depth = 0;
        var target = Layout.FirstPhysical(key);
        if (!_keys.SeekAtOrAfter(target))
        {
            return Lose();
        }

        return !Layout.IsLink(target) || !_keys.Key.SequenceEqual(target)
            ? LandForward()
            : SeekInBuckets(key);
    }

    /// <summary>Goes to the greatest key that is less than <paramref name="key"/>.</summary>
    public bool SeekBefore(ReadOnlySpan<byte> key)
    {
        if (key.IsEmpty)
        {
            return Lose();
        }

        return SeekAtOrAfter(key) ? MovePrevious() : SeekLast();
    }

    public bool MoveNext() => _place switch
    {
        Place.Record => StepForward(),
        Place.EmptyKey => FirstRecord(),
        _ => false,
    };

    public bool MovePrevious() => _place == Place.Record ? StepBackward() : Lose();

    /// <summary>Gives the cursor back to its reader for reuse.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _place = Place.None;
            _reader.TakeBack(this);
        }
    }

    /// <summary>Makes a cursor of an earlier picture one of the reader's present picture. Reader only.</summary>
    internal void Renew()
    {
        _disposed = false;
        _reader.Renew(_keys);
        if (_buckets is not null)
        {
            _reader.Renew(_buckets);
        }
    }

    /// <summary>Frees the native cursors. Reader only.</summary>
    internal void Destroy()
    {
        _keys.Dispose();
        _buckets?.Dispose();
    }

    /// <summary>Key bytes that stand before the rest at this depth.</summary>
    private static int PrefixBytes(int depth) => depth == 0 ? 0 : Layout.LinkBytes + ((depth - 1) * Layout.ChunkBytes);

    private static InvalidOperationException NotOnAKey() => new("the cursor is on no key");

    private static DiskFormatException Damaged(string what) => new($"long-key records are damaged: {what}");

    private LmdbCursor Level() => _depth == 0 ? _keys : _buckets!;

    private bool FirstRecord()
    {
        _depth = 0;
        return _keys.Move(LmdbCursorOperation.First) ? LandForward() : Lose();
    }

    /// <summary>Follows the key's links as far as they exist. Called with <c>_keys</c> on the key's first link.</summary>
    private bool SeekInBuckets(ReadOnlySpan<byte> key)
    {
        Span<byte> physical = stackalloc byte[Layout.LinkBytes];
        while (true)
        {
            Enter();
            var target = Layout.BucketPhysical(physical, _path[_depth - 1], key[PrefixBytes(_depth)..]);
            if (!_buckets!.SeekAtOrAfter(target) || !InBucket())
            {
                // Everything in this bucket is less.
                Leave();
                return StepForward();
            }

            if (!Layout.IsLink(target) || !_buckets.Key.SequenceEqual(target))
            {
                return LandForward();
            }
        }
    }

    /// <summary>From a record just moved to: into buckets as long as it is a link, to the least key.</summary>
    private bool LandForward()
    {
        Span<byte> id = stackalloc byte[Layout.BucketIdBytes];
        while (Layout.IsLink(Level().Key))
        {
            Enter();
            BinaryPrimitives.WriteUInt64BigEndian(id, _path[_depth - 1]);
            if (!_buckets!.SeekAtOrAfter(id) || !InBucket())
            {
                throw Damaged($"bucket {_path[_depth - 1]} is empty");
            }
        }

        return Arrive();
    }

    /// <summary>The same to the greatest key.</summary>
    private bool LandBackward()
    {
        Span<byte> next = stackalloc byte[Layout.BucketIdBytes];
        while (Layout.IsLink(Level().Key))
        {
            Enter();
            BinaryPrimitives.WriteUInt64BigEndian(next, _path[_depth - 1] + 1);
            var found = _buckets!.SeekAtOrAfter(next)
                ? _buckets.Move(LmdbCursorOperation.Previous)
                : _buckets.Move(LmdbCursorOperation.Last);
            if (!found || !InBucket())
            {
                throw Damaged($"bucket {_path[_depth - 1]} is empty");
            }
        }

        return Arrive();
    }

    private bool Arrive()
    {
        if (_depth > 0)
        {
            var rest = _buckets!.Key[Layout.BucketIdBytes..];
            var prefix = PrefixBytes(_depth);
            _keyLength = prefix + rest.Length;
            EnsureKeyRoom(_keyLength, prefix);
            rest.CopyTo(_key.AsSpan(prefix));
        }

        _place = Place.Record;
        return true;
    }

    private bool StepForward()
    {
        while (true)
        {
            if (_depth == 0)
            {
                return _keys.Move(LmdbCursorOperation.Next) ? LandForward() : Lose();
            }

            if (_buckets!.Move(LmdbCursorOperation.Next) && InBucket())
            {
                return LandForward();
            }

            Leave();
        }
    }

    private bool StepBackward()
    {
        while (true)
        {
            if (_depth == 0)
            {
                return _keys.Move(LmdbCursorOperation.Previous) ? LandBackward() : TurnToEmptyKey();
            }

            if (_buckets!.Move(LmdbCursorOperation.Previous) && InBucket())
            {
                return LandBackward();
            }

            Leave();
        }
    }

    /// <summary>Goes from the link at the position into its bucket, without a position there yet.</summary>
    private void Enter()
    {
        var level = Level();
        var chunk = _depth == 0 ? level.Key : level.Key[Layout.BucketIdBytes..];
        var prefix = PrefixBytes(_depth);
        if (level.Value.Length != Layout.BucketIdBytes || prefix + chunk.Length > StoreLimits.KeyBytesMax)
        {
            throw Damaged("a link's value is not a bucket id, or the chain is too long");
        }

        EnsureKeyRoom(prefix + chunk.Length, prefix);
        chunk.CopyTo(_key.AsSpan(prefix));
        if (_path.Length == _depth)
        {
            Array.Resize(ref _path, Math.Max(4, _depth * 2));
        }

        _path[_depth++] = Layout.ReadBucketId(level.Value);
        _buckets ??= _reader.OpenBucketCursor();
    }

    /// <summary>Goes back to the link that led into the current bucket.</summary>
    private void Leave()
    {
        _depth--;
        if (_depth == 0)
        {
            return;
        }

        Span<byte> physical = stackalloc byte[Layout.LinkBytes];
        var link = Layout.BucketPhysical(physical, _path[_depth - 1],
            _key.AsSpan(PrefixBytes(_depth), Layout.ChunkBytes));
        if (!_buckets!.SeekAtOrAfter(link) || !_buckets.Key.SequenceEqual(link))
        {
            throw Damaged($"the link out of bucket {_path[_depth - 1]} is gone");
        }
    }

    private bool InBucket() =>
        _buckets!.Key.Length >= Layout.BucketIdBytes && Layout.ReadBucketId(_buckets.Key) == _path[_depth - 1];

    private bool TurnToEmptyKey()
    {
        if (!_reader.TryGet(default, out _))
        {
            return Lose();
        }

        _place = Place.EmptyKey;
        return true;
    }

    private bool Lose()
    {
        _place = Place.None;
        return false;
    }

    private void EnsureKeyRoom(int length, int keep)
    {
        if (_key.Length < length)
        {
            var grown = new byte[Math.Max(length, Math.Min(_key.Length * 2, StoreLimits.KeyBytesMax))];
            _key.AsSpan(0, keep).CopyTo(grown);
            _key = grown;
        }
    }
}
