using System.Buffers;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace KvNode.Testing;

/// <summary>
/// A plain blocking RESP client: one socket, no retries, no interpretation. One thread at a time.
/// </summary>
/// <remarks>
/// <see cref="Send"/> gathers commands, <see cref="Flush"/> sends them, <see cref="Read"/> takes one reply;
/// <see cref="Call"/> is the three together. Every wait ends at the timeout with a <see cref="TimeoutException"/>;
/// a connection closed by the server is an <see cref="EndOfStreamException"/>.
/// </remarks>
public sealed class RespClient : IDisposable
{
    private readonly Socket _socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
    {
        NoDelay = true,
    };

    private readonly ArrayBufferWriter<byte> _output = new(4096);
    private byte[] _input = new byte[16 * 1024];
    private int _start;
    private int _end;

    public RespClient(int port, TimeSpan? timeout = null)
        : this(new IPEndPoint(IPAddress.Loopback, port), timeout)
    {
    }

    public RespClient(IPEndPoint server, TimeSpan? timeout = null)
    {
        Timeout = timeout ?? TimeSpan.FromSeconds(20);
        _socket.Connect(server);
    }

    public Socket Socket => _socket;

    public TimeSpan Timeout
    {
        get => TimeSpan.FromMilliseconds(_socket.ReceiveTimeout);
        set
        {
            _socket.ReceiveTimeout = (int)value.TotalMilliseconds;
            _socket.SendTimeout = (int)value.TotalMilliseconds;
        }
    }

    /// <summary>One command, one reply.</summary>
    public RespValue Call(params ReadOnlySpan<RespArgument> args)
    {
        Send(args);
        Flush();
        return Read();
    }

    /// <summary>As <see cref="Call"/>, and the reply's one-line print.</summary>
    public string Text(params ReadOnlySpan<RespArgument> args) => Call(args).ToString();

    /// <summary>Gathers one command as a multibulk.</summary>
    public void Send(params ReadOnlySpan<RespArgument> args)
    {
        Append($"*{args.Length}\r\n");
        foreach (var arg in args)
        {
            Append($"${arg.Span.Length}\r\n");
            _output.Write(arg.Span);
            _output.Write("\r\n"u8);
        }
    }

    /// <summary>Gathers bytes as they are.</summary>
    public void SendRaw(ReadOnlySpan<byte> bytes) => _output.Write(bytes);

    public void Flush()
    {
        var rest = _output.WrittenSpan;
        while (!rest.IsEmpty)
        {
            rest = rest[Guard(rest, static (socket, bytes) => socket.Send(bytes))..];
        }

        _output.ResetWrittenCount();
    }

    /// <summary>The next reply.</summary>
    public RespValue Read()
    {
        var at = 0;
        var value = Parse(ref at);
        Consume(at);
        return value;
    }

    /// <summary>The next reply's bytes as they came.</summary>
    public byte[] ReadRaw()
    {
        var at = 0;
        _ = Parse(ref at);
        var raw = _input.AsSpan(_start, at).ToArray();
        Consume(at);
        return raw;
    }

    /// <summary>Everything up to the end of the stream; a reset by the server counts as its end.</summary>
    public byte[] ReadToEnd()
    {
        try
        {
            while (true)
            {
                Fill();
            }
        }
        catch (EndOfStreamException)
        {
            var rest = _input.AsSpan(_start, _end - _start).ToArray();
            Consume(rest.Length);
            return rest;
        }
    }

    public void Dispose() => _socket.Dispose();

    private void Append(string text) => Encoding.ASCII.GetBytes(text, _output);

    private RespValue Parse(ref int at)
    {
        var type = (char)PeekByte(at);
        var line = Line(ref at);
        switch (type)
        {
            case '+' or '-' or ':' or '_' or '#' or ',' or '(':
                return new RespValue(type, line, null);
            case '$' or '=' or '!':
                return new RespValue(type, Payload(ref at, Length(line)), null);
            case '*' or '~' or '>':
                return new RespValue(type, null, Elements(ref at, Length(line)));
            case '%':
                return new RespValue(type, null, Elements(ref at, Length(line) * 2));
            default:
                throw new InvalidDataException($"not a reply: type byte {(int)type}, rest of line '{Encoding.UTF8.GetString(line)}'");
        }
    }

    private RespValue[]? Elements(ref int at, int count)
    {
        if (count < 0)
        {
            return null;
        }

        var items = new RespValue[count];
        for (var i = 0; i < count; i++)
        {
            items[i] = Parse(ref at);
        }

        return items;
    }

    private byte[]? Payload(ref int at, int length)
    {
        if (length < 0)
        {
            return null;
        }

        Need(at + length + 2);
        var payload = _input.AsSpan(_start + at, length).ToArray();
        if (!_input.AsSpan(_start + at + length, 2).SequenceEqual("\r\n"u8))
        {
            throw new InvalidDataException("a bulk reply does not end with CR LF");
        }

        at += length + 2;
        return payload;
    }

    private byte[] Line(ref int at)
    {
        var from = at + 1;
        var searched = from;
        while (true)
        {
            var found = _input.AsSpan(_start + searched, _end - _start - searched).IndexOf("\r\n"u8);
            if (found >= 0)
            {
                at = searched + found + 2;
                return _input.AsSpan(_start + from, searched + found - from).ToArray();
            }

            searched = Math.Max(from, _end - _start - 1);
            Fill();
        }
    }

    private static int Length(ReadOnlySpan<byte> line) =>
        int.Parse(line, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);

    private byte PeekByte(int at)
    {
        Need(at + 1);
        return _input[_start + at];
    }

    private void Need(int bytes)
    {
        while (_end - _start < bytes)
        {
            Fill();
        }
    }

    private void Consume(int bytes)
    {
        _start += bytes;
        if (_start == _end)
        {
            _start = 0;
            _end = 0;
        }
    }

    private void Fill()
    {
        if (_end == _input.Length)
        {
            var kept = _end - _start;
            var target = kept * 2 > _input.Length ? new byte[checked(_input.Length * 2)] : _input;
            _input.AsSpan(_start, kept).CopyTo(target);
            (_input, _start, _end) = (target, 0, kept);
        }

        var received = Guard(_input.AsSpan(_end), static (socket, buffer) => socket.Receive(buffer));
        _end += received > 0 ? received : throw new EndOfStreamException("the server closed the connection");
    }

    private delegate int Transfer<T>(Socket socket, T bytes)
        where T : allows ref struct;

    private int Guard<T>(T bytes, Transfer<T> transfer)
        where T : allows ref struct
    {
        try
        {
            return transfer(_socket, bytes);
        }
        catch (SocketException failure) when (failure.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock)
        {
            throw new TimeoutException($"no progress within {Timeout.TotalSeconds} s", failure);
        }
        catch (SocketException failure)
        {
            throw new EndOfStreamException($"the connection broke: {failure.SocketErrorCode}", failure);
        }
    }
}
