using System.Text;

namespace KvNode.Conformance;

/// <summary>A readable stream of <c>SET key value</c> commands as RESP, made as it is read.</summary>
internal sealed class SetCommandStream(int count) : Stream
{
    private byte[] _chunk = [];
    private int _at;
    private int _next;

    public static string Key(int number) => $"key:{number:d8}";

    public static string Value(int number) => $"value-of-{number}-{number * 7919L:x}";

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer)
    {
        if (_at == _chunk.Length && !Refill())
        {
            return 0;
        }

        var length = Math.Min(buffer.Length, _chunk.Length - _at);
        _chunk.AsSpan(_at, length).CopyTo(buffer);
        _at += length;
        return length;
    }

    public override void Flush() => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    private bool Refill()
    {
        var text = new StringBuilder(80 * 1024);
        for (; _next < count && text.Length < 64 * 1024; _next++)
        {
            var (key, value) = (Key(_next), Value(_next));
            text.Append($"*3\r\n$3\r\nSET\r\n${key.Length}\r\n{key}\r\n${value.Length}\r\n{value}\r\n");
        }

        _chunk = Encoding.ASCII.GetBytes(text.ToString());
        _at = 0;
        return _chunk.Length > 0;
    }
}
