using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>How far a stretch of a scan came.</summary>
internal enum ScanStep
{
    /// <summary>Everything wanted has been seen.</summary>
    End,

    /// <summary>Enough keys visited for one stretch: let others run.</summary>
    Pause,

    /// <summary>Enough gathered: let the client take it.</summary>
    Full,
}

/// <summary>
/// The walk behind KEYS. RESP wants the number of elements first, so it goes over the range twice: once to count, once
/// to answer, over the same view. What fits <see cref="GatherBytesMax"/> is kept on the first pass, so a small answer
/// needs no second one, and a large one starts where the kept part ends.
/// </summary>
/// <remarks>
/// One thread at a time, in stretches of <see cref="VisitsMax"/> keys, so that the caller can hand the thread back in
/// between. Memory: the kept part, one key, and what the caller lets the reply grow to.
/// </remarks>
internal sealed class KeyScan : IDisposable
{
    /// <summary>Keys visited before the caller is asked to let others run.</summary>
    public const int VisitsMax = 2000;

    /// <summary>Reply bytes gathered before the client is asked to take them.</summary>
    public const int DrainBytes = 64 * 1024;

    /// <summary>Reply bytes of the first pass that are kept.</summary>
    public const int GatherBytesMax = 64 * 1024;

    // More than the headers of a key and a value can take.
    private const int HeaderBytesMax = 80;

    private readonly KeyspaceView _view;
    private readonly byte[] _pattern;
    private readonly byte[]? _pivot;
    private readonly KeysRequest _request;
    private readonly RespWriter _kept;
    private readonly bool _matchesAll;
    private KeyCursor? _cursor;
    private byte[]? _resumeAt;
    private long _keptKeys;
    private long _left;
    private int _visits;

    public KeyScan(KeyspaceView view, byte[] pattern, byte[]? pivot, KeysRequest request, int protocol)
    {
        _view = view;
        _pattern = pattern;
        _pivot = pivot;
        _request = request;
        _kept = new RespWriter(protocol);
        _matchesAll = KeyPattern.MatchesAll(pattern);
    }

    /// <summary>Keys of the answer: grows while <see cref="Count"/> runs.</summary>
    public long Matched { get; private set; }

    /// <summary>Knows the number of keys without looking at them: every key is wanted, up to the limit.</summary>
    public bool TryCountAtOnce()
    {
        if (_pivot is not null || !_matchesAll)
        {
            return false;
        }

        Matched = Math.Min(_view.Count, _request.Limit);
        return true;
    }

    /// <summary>The first pass, one stretch: counts, and keeps what is small enough.</summary>
    public ScanStep Count()
    {
        while (Matched < _request.Limit && TryOpen())
        {
            if (IsStretchOver())
            {
                return ScanStep.Pause;
            }

            if (!_cursor!.MoveNext())
            {
                break;
            }

            if (Matches())
            {
                Matched++;
                Keep();
            }
        }

        return ScanStep.End;
    }

    /// <summary>Writes the head and what the first pass kept. The first pass is over.</summary>
    public void BeginAnswer(RespWriter reply)
    {
        WriteHeader(reply, _request.WithValues, Matched);
        reply.Raw(_kept.Written);
        _left = Matched - _keptKeys;
        _cursor?.Dispose();
        _cursor = null;
    }

    /// <summary>The second pass, one stretch: writes the keys that the first one did not keep.</summary>
    /// <exception cref="InvalidOperationException">The view holds fewer keys than it counted.</exception>
    public ScanStep Answer(RespWriter reply)
    {
        while (_left > 0)
        {
            if (reply.Length >= DrainBytes)
            {
                return ScanStep.Full;
            }

            if (IsStretchOver())
            {
                return ScanStep.Pause;
            }

            if (!TryOpen() || !_cursor!.MoveNext())
            {
                throw new InvalidOperationException($"the keyspace counted {Matched} keys and has {_left} less");
            }

            if (Matches())
            {
                Write(reply, _request.WithValues, _cursor.Key, _cursor.Value, _cursor.Tag);
                _left--;
            }
        }

        return ScanStep.End;
    }

    public void Dispose()
    {
        _cursor?.Dispose();
        _kept.Dispose();
    }

    /// <summary>
    /// RESP2: one flat array, key and value by turns. RESP3: an array of pairs, as Redis answers where order counts
    /// (ZRANGE WITHSCORES, HRANDFIELD WITHVALUES); a map would leave the order to the client's library.
    /// </summary>
    public static void WriteHeader(RespWriter reply, bool withValues, long keys) =>
        reply.ArrayHeader(withValues && reply.Protocol != 3 ? keys * 2 : keys);

    /// <summary>One key, or with values a key and its string; null where it holds something else.</summary>
    public static void Write(
        RespWriter reply, bool withValues, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, ValueTag tag)
    {
        if (!withValues)
        {
            reply.Bulk(key);
            return;
        }

        if (reply.Protocol == 3)
        {
            reply.ArrayHeader(2);
        }

        reply.Bulk(key);
        if (tag == ValueTag.String)
        {
            reply.Bulk(value);
        }
        else
        {
            reply.Null();
        }
    }

    /// <summary>Counts the visit about to be made; true, and counts anew, when it belongs to the next stretch.</summary>
    private bool IsStretchOver()
    {
        if (_visits == VisitsMax)
        {
            _visits = 0;
            return true;
        }

        _visits++;
        return false;
    }

    private bool Matches() => _matchesAll || KeyPattern.Matches(_pattern, _cursor!.Key);

    private void Keep()
    {
        if (_resumeAt is not null)
        {
            return;
        }

        var key = _cursor!.Key;
        var value = _request.WithValues ? _cursor.Value : default;
        if (_kept.Length + (long)key.Length + value.Length + HeaderBytesMax > GatherBytesMax)
        {
            _resumeAt = key.ToArray();
            return;
        }

        Write(_kept, _request.WithValues, key, value, _request.WithValues ? _cursor.Tag : ValueTag.String);
        _keptKeys++;
    }

    /// <summary>Opens the cursor if it is not; false when the range is empty.</summary>
    private bool TryOpen()
    {
        if (_cursor is not null)
        {
            return true;
        }

        var whole = KeyPattern.RangeOf(_pattern, new byte[KeyPattern.RangeBytes(_pattern)]);
        if (!KeysRequest.TryNarrow(whole, _pivot, _pivot is not null, _request.Descending, out var range))
        {
            return false;
        }

        _cursor = _view.Scan(_resumeAt is null ? range : ResumeIn(range, _resumeAt));
        return true;
    }

    /// <summary>The rest of the range from a key of it on, that key included.</summary>
    private static KeyRange ResumeIn(KeyRange range, byte[] key) => range.Descending
        ? new KeyRange { Start = range.Start, End = (byte[])[.. key, 0], HasEnd = true, Descending = true }
        : new KeyRange { Start = key, End = range.End, HasEnd = range.HasEnd };
}
