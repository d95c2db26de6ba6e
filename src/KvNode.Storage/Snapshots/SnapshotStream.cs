using System.Buffers.Binary;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// Writes a <c>state.bin</c> by being read: each call compresses as many more records as it needs. Memory is constant
/// (about 0.6 MiB), whatever the number of records and the size of their values.
/// </summary>
/// <remarks>
/// One thread at a time, not bound to one thread. Owns the source. The header's count is a promise of the source's:
/// a source that breaks it, or whose keys are not ascending, is a mistake of ours and throws instead of writing a file
/// that no reader would take.
/// </remarks>
public sealed class SnapshotStream : IDisposable
{
    // The whole of one LZ4 block: a full stage goes out as one block, without a copy inside the library.
    private const int StageBytes = 256 * 1024;

    private readonly IRecordSource _source;
    private readonly Lz4FrameWriter _frame;
    private readonly byte[] _stage = new byte[StageBytes];
    private readonly byte[] _packed;
    private readonly byte[] _previousKey = new byte[SnapshotFormat.KeyBytesMax];
    private int _previousKeyLength = -1;

    // The part being staged: first the head (file header, or one record up to its tag, or the footer), then the value.
    private readonly byte[] _head = new byte[
        Math.Max(SnapshotFormat.HeaderBytesMax, sizeof(uint) + SnapshotFormat.KeyBytesMax + sizeof(uint) + 1)];
    private int _headOffset;
    private int _headLength;
    private int _valueOffset;
    private int _valueLength;

    private int _stageLength;
    private int _packedOffset;
    private int _packedLength;
    private uint _crc = Crc32C.Start;
    private int _crcOffset;
    private long _recordsWritten;
    private bool _footerStaged;
    private bool _frameBegun;
    private bool _frameEnded;

    /// <exception cref="ArgumentException">The header does not fit the format.</exception>
    /// <exception cref="DllNotFoundException">liblz4.so.1 is not installed.</exception>
    public SnapshotStream(SnapshotHeader header, IRecordSource source)
    {
        Header = header;
        _source = source;
        var encoded = SnapshotFormat.EncodeHeader(header);
        encoded.CopyTo(_head, 0);
        _headLength = encoded.Length;
        _frame = new Lz4FrameWriter(StageBytes);
        _packed = new byte[_frame.OutputBytesMax];
    }

    public SnapshotHeader Header { get; }

    /// <summary>Fills the buffer with the next bytes of the file; shorter only at the end, 0 after it.</summary>
    /// <exception cref="InvalidOperationException">The source broke its promise (see the remarks).</exception>
    public int Read(Span<byte> buffer)
    {
        var total = 0;
        while (total < buffer.Length)
        {
            if (_packedOffset == _packedLength && !Produce())
            {
                break;
            }

            var count = Math.Min(buffer.Length - total, _packedLength - _packedOffset);
            _packed.AsSpan(_packedOffset, count).CopyTo(buffer[total..]);
            _packedOffset += count;
            total += count;
        }

        return total;
    }

    public void Dispose()
    {
        _frame.Dispose();
        _source.Dispose();
    }

    /// <summary>Makes the next piece of the frame; false when all of it has been made.</summary>
    private bool Produce()
    {
        _packedOffset = 0;
        _packedLength = 0;
        if (!_frameBegun)
        {
            _frameBegun = true;
            _packedLength = _frame.Begin(_packed);
            return true;
        }

        if (_frameEnded)
        {
            return false;
        }

        FillStage();
        if (_stageLength == 0)
        {
            _frameEnded = true;
            _packedLength = _frame.End(_packed);
            return true;
        }

        AddStageToChecksum();
        _packedLength = _frame.Update(_stage.AsSpan(0, _stageLength), _packed);
        _stageLength = 0;
        _crcOffset = 0;
        return true;
    }

    private void FillStage()
    {
        while (_stageLength < _stage.Length)
        {
            if (_headOffset < _headLength)
            {
                _headOffset += Stage(_head.AsSpan(_headOffset, _headLength - _headOffset));
            }
            else if (_valueOffset < _valueLength)
            {
                _valueOffset += Stage(_source.Value[_valueOffset..]);
            }
            else if (_footerStaged)
            {
                return;
            }
            else if (_source.MoveNext())
            {
                BeginRecord();
            }
            else
            {
                BeginFooter();
            }
        }
    }

    private int Stage(ReadOnlySpan<byte> bytes)
    {
        var count = Math.Min(bytes.Length, _stage.Length - _stageLength);
        bytes[..count].CopyTo(_stage.AsSpan(_stageLength));
        _stageLength += count;
        return count;
    }

    private void BeginRecord()
    {
        var key = _source.Key;
        var value = _source.Value;
        Promise(key.Length <= SnapshotFormat.KeyBytesMax, "a key over the limit");
        Promise((uint)value.Length + 1 <= SnapshotFormat.StoredValueBytesMax, "a value over the limit");
        Promise(
            _previousKeyLength < 0 || _previousKey.AsSpan(0, _previousKeyLength).SequenceCompareTo(key) < 0,
            "keys out of order");
        key.CopyTo(_previousKey);
        _previousKeyLength = key.Length;
        _recordsWritten++;

        var head = _head.AsSpan();
        BinaryPrimitives.WriteUInt32LittleEndian(head, (uint)key.Length);
        key.CopyTo(head[4..]);
        BinaryPrimitives.WriteUInt32LittleEndian(head[(4 + key.Length)..], (uint)value.Length + 1);
        head[4 + key.Length + 4] = (byte)_source.Tag;
        _headOffset = 0;
        _headLength = 4 + key.Length + 4 + 1;
        _valueOffset = 0;
        _valueLength = value.Length;
    }

    private void BeginFooter()
    {
        Promise(_recordsWritten == Header.Count, $"{_recordsWritten} records where {Header.Count} were announced");
        _footerStaged = true;
        AddStageToChecksum();
        BinaryPrimitives.WriteUInt32LittleEndian(_head, SnapshotFormat.EndMarker);
        BinaryPrimitives.WriteInt64LittleEndian(_head.AsSpan(4), _recordsWritten);
        var crc = Crc32C.Finish(Crc32C.Append(_crc, _head.AsSpan(0, 12)));
        BinaryPrimitives.WriteUInt32LittleEndian(_head.AsSpan(12), crc);
        _headOffset = 0;
        _headLength = SnapshotFormat.FooterBytes;
        _valueOffset = 0;
        _valueLength = 0;
    }

    private void AddStageToChecksum()
    {
        _crc = Crc32C.Append(_crc, _stage.AsSpan(_crcOffset, _stageLength - _crcOffset));
        _crcOffset = _stageLength;
    }

    private static void Promise(bool kept, string what)
    {
        if (!kept)
        {
            throw new InvalidOperationException($"the snapshot's source gave {what}");
        }
    }
}
