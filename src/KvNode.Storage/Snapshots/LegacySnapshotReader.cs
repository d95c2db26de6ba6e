using System.Buffers.Binary;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// Reads the <c>state.bin</c> of the original kvnode and of bitraft: one gzip member over records
/// <c>u64 key length, key, u64 value length, value</c>, little-endian, with no header, count or end mark.
/// Values in pieces; constant memory (about 0.5 MiB) whatever the file claims.
/// </summary>
/// <remarks>
/// Keys are handed out as stored: kvnode put a <c>k</c> in front of every key, bitraft did not, and nothing else in the
/// file tells the two apart. Nothing may be trusted before <see cref="MoveNext"/> has returned false. One thread at a
/// time. The stream stays the caller's.
/// </remarks>
public sealed class LegacySnapshotReader : IDisposable
{
    /// <summary>The longest key and the prefix that kvnode adds.</summary>
    private const int StoredKeyBytesMax = StoreLimits.KeyBytesMax + 1;

    private readonly BufferedInput _input;
    private readonly byte[] _key = new byte[StoredKeyBytesMax];
    private int _keyLength;
    private long _valueLeft;

    /// <exception cref="SnapshotFormatException">Not gzip, or gzip with something else inside.</exception>
    public LegacySnapshotReader(Stream source) => _input = new BufferedInput(new GzipMemberReader(source));

    /// <summary>The record's key as stored; valid until the next <see cref="MoveNext"/>.</summary>
    public ReadOnlySpan<byte> Key => _key.AsSpan(0, _keyLength);

    public long ValueLength { get; private set; }

    /// <summary>Goes to the next record, over what was left of the value. False: the whole file has been
    /// verified.</summary>
    /// <exception cref="SnapshotFormatException">Damaged, cut short, over a limit, or not of this kind.</exception>
    public bool MoveNext()
    {
        _input.Skip(_valueLeft, "a value");
        _valueLeft = 0;
        ValueLength = 0;
        _keyLength = 0;
        if (_input.AtEnd)
        {
            return false;
        }

        var at = _input.Position;
        var keyLength = _input.ReadUInt64("a key length");
        if (keyLength > StoredKeyBytesMax)
        {
            RefuseForeign(keyLength, at);
            throw new SnapshotFormatException(
                $"key of {keyLength} bytes at byte {at} of the content: over the limit of {StoreLimits.KeyBytesMax}");
        }

        _keyLength = (int)keyLength;
        _input.ReadExactly(_key.AsSpan(0, _keyLength), "a key");
        var valueLength = _input.ReadUInt64("a value length");
        if (valueLength > StoreLimits.ValueBytesMax)
        {
            throw new SnapshotFormatException(
                $"value of {valueLength} bytes at byte {at} of the content: over the limit of "
                + $"{StoreLimits.ValueBytesMax}");
        }

        ValueLength = (long)valueLength;
        _valueLeft = ValueLength;
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

    /// <summary>uhaha, which kvnode later moved to, also writes gzip, with a head of its own inside.</summary>
    private static void RefuseForeign(ulong keyLength, long at)
    {
        if (at == 0 && keyLength == BinaryPrimitives.ReadUInt64LittleEndian("SNAP0001"u8))
        {
            throw new SnapshotFormatException(
                "this is a snapshot of uhaha (SNAP0001), whose content depends on the program that "
                + "wrote it: not supported");
        }
    }
}
