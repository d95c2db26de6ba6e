namespace KvNode.Storage.Snapshots;

/// <summary>
/// Reads a <c>state.bin</c>, record by record, values in pieces; constant memory (about 0.5 MiB) whatever the file
/// claims.
/// </summary>
/// <remarks>
/// Nothing may be trusted before <see cref="MoveNext"/> has returned false: only then are count, checksum and the
/// frame's end verified. One thread at a time. The stream stays the caller's.
/// </remarks>
public sealed class SnapshotReader : IDisposable
{
    private readonly BufferedInput _input;

    // Two buffers that change roles: the key in hand and the one before it.
    private byte[] _key = new byte[SnapshotFormat.KeyBytesMax];
    private byte[] _previousKey = new byte[SnapshotFormat.KeyBytesMax];
    private int _keyLength = -1;
    private int _previousKeyLength;
    private long _valueLeft;
    private long _recordsRead;
    private bool _ended;

    /// <summary>Reads and checks the header.</summary>
    /// <exception cref="SnapshotFormatException">Not a snapshot of this format.</exception>
    /// <exception cref="DllNotFoundException">liblz4.so.1 is not installed.</exception>
    public SnapshotReader(Stream source)
    {
        _input = new BufferedInput(new Lz4FrameReader(source));
        try
        {
            Header = SnapshotFormat.ReadHeader(_input);
        }
        catch
        {
            _input.Dispose();
            throw;
        }
    }

    public SnapshotHeader Header { get; }

    /// <summary>The record's key; valid until the next <see cref="MoveNext"/>.</summary>
    public ReadOnlySpan<byte> Key => _key.AsSpan(0, Math.Max(_keyLength, 0));

    /// <summary>The value's first byte, as stored. Not checked here: a caller refuses those it does not know.</summary>
    public ValueTag Tag { get; private set; }

    /// <summary>Length of the value without its tag byte.</summary>
    public long ValueLength { get; private set; }

    /// <summary>Goes to the next record, over what was left of the value. False: the whole file has been
    /// verified.</summary>
    /// <exception cref="SnapshotFormatException">Damaged or cut short; where is in the message.</exception>
    public bool MoveNext()
    {
        if (_ended)
        {
            return false;
        }

        _input.Skip(_valueLeft, "a value");
        _valueLeft = 0;
        var at = _input.Position;
        var keyLength = _input.ReadUInt32("a key length");
        if (keyLength == SnapshotFormat.EndMarker)
        {
            VerifyEnd();
            return false;
        }

        if (keyLength > SnapshotFormat.KeyBytesMax)
        {
            throw new SnapshotFormatException(
                $"key of {keyLength} bytes at byte {at} of the content: over the limit of "
                + $"{SnapshotFormat.KeyBytesMax}");
        }

        ReadKey((int)keyLength, at);
        ReadValueHead(at);
        _recordsRead++;
        return true;
    }

    /// <summary>Takes the next piece of the value; 0 when all of it has been taken (or the target is empty).</summary>
    /// <exception cref="SnapshotFormatException">Damaged or cut short.</exception>
    public int ReadValue(Span<byte> target)
    {
        if (_valueLeft == 0 || target.IsEmpty)
        {
            return 0;
        }

        var want = (int)Math.Min(target.Length, _valueLeft);
        var count = _input.Read(target[..want]);
        if (count == 0)
        {
            throw new SnapshotFormatException(
                $"truncated: ends inside a value at byte {_input.Position} of the content");
        }

        _valueLeft -= count;
        return count;
    }

    public void Dispose() => _input.Dispose();

    private void ReadKey(int length, long at)
    {
        (_key, _previousKey) = (_previousKey, _key);
        _previousKeyLength = _keyLength;
        _keyLength = length;
        _input.ReadExactly(_key.AsSpan(0, length), "a key");
        if (_previousKeyLength >= 0 && _previousKey.AsSpan(0, _previousKeyLength).SequenceCompareTo(Key) >= 0)
        {
            throw new SnapshotFormatException($"corrupt: keys out of order at byte {at} of the content");
        }
    }

    private void ReadValueHead(long at)
    {
        var stored = _input.ReadUInt32("a value length");
        if (stored is 0 or > SnapshotFormat.StoredValueBytesMax)
        {
            throw new SnapshotFormatException($"value of {stored} bytes, tag included, at byte {at} of the content: "
                + $"over the limit of {StoreLimits.ValueBytesMax} or empty");
        }

        Span<byte> tag = stackalloc byte[1];
        _input.ReadExactly(tag, "a value");
        Tag = (ValueTag)tag[0];
        ValueLength = stored - 1;
        if (Tag == ValueTag.String && ValueLength > StoreLimits.ValueBytesMax)
        {
            throw new SnapshotFormatException(
                $"value of {ValueLength} bytes at byte {at} of the content: over the limit of "
                + $"{StoreLimits.ValueBytesMax}");
        }

        _valueLeft = ValueLength;
    }

    private void VerifyEnd()
    {
        var count = _input.ReadUInt64("the footer");
        var computed = _input.Checksum;
        if (_input.ReadUInt32("the footer") != computed)
        {
            throw new SnapshotFormatException("corrupt: the content's checksum does not match");
        }

        if (count != (ulong)_recordsRead || Header.Count != _recordsRead)
        {
            throw new SnapshotFormatException(
                $"corrupt: {_recordsRead} records, where the header says {Header.Count} and the footer {count}");
        }

        // This also makes the frame verify its own end, checksum and that nothing follows.
        if (!_input.AtEnd)
        {
            throw new SnapshotFormatException("corrupt: content goes on after the footer");
        }

        _ended = true;
        _keyLength = -1;
        ValueLength = 0;
    }
}
