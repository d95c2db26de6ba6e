using System.Buffers.Text;

namespace KvNode.Server.Hosting;

/// <summary>
/// Writes <c>SET</c> commands through one buffer of 256 KiB, values in pieces. One thread at a time.
/// </summary>
/// <remarks><c>*3 CRLF $3 CRLF SET CRLF $keyLength CRLF key CRLF $valueLength CRLF value CRLF</c></remarks>
internal sealed class SetCommandWriter(Stream output)
{
    /// <summary>Digits of a length and the line end.</summary>
    private const int LengthBytesMax = 24;

    private readonly byte[] _buffer = new byte[256 * 1024];
    private int _length;
    private bool _inCommand;

    private static ReadOnlySpan<byte> Front => "*3\r\n$3\r\nSET\r\n$"u8;

    /// <summary>Writes one command; the value is taken from the reader's record in hand.</summary>
    public void Write(ReadOnlySpan<byte> key, SnapshotRecords record)
    {
        _inCommand = true;
        Append(Front);
        AppendLength(key.Length);
        Append(key);
        Append("\r\n$"u8);
        AppendLength(record.ValueLength);
        int count;
        while ((count = record.ReadValue(FreeSpace())) > 0)
        {
            _length += count;
        }

        Append("\r\n"u8);
        _inCommand = false;
    }

    /// <summary>Ends the output so that a server sees an unfinished command, not a complete sequence.</summary>
    public void CutInsideCommand()
    {
        if (!_inCommand)
        {
            Append(Front[..^1]);
        }

        Flush();
    }

    public void Flush()
    {
        output.Write(_buffer, 0, _length);
        _length = 0;
        output.Flush();
    }

    private void AppendLength(long value)
    {
        if (_buffer.Length - _length < LengthBytesMax)
        {
            WriteOut();
        }

        _ = Utf8Formatter.TryFormat(value, _buffer.AsSpan(_length), out var digits);
        _length += digits;
        Append("\r\n"u8);
    }

    private void Append(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var count = Math.Min(bytes.Length, FreeSpace().Length);
            bytes[..count].CopyTo(_buffer.AsSpan(_length));
            _length += count;
            bytes = bytes[count..];
        }
    }

    private Span<byte> FreeSpace()
    {
        if (_length == _buffer.Length)
        {
            WriteOut();
        }

        return _buffer.AsSpan(_length);
    }

    private void WriteOut()
    {
        output.Write(_buffer, 0, _length);
        _length = 0;
    }
}
