using System.Text;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class RespWriterTests
{
    [Fact]
    public void EveryFormIsWrittenInRespTwoAndThree()
    {
        Check(reply => reply.Ok(), "+OK\r\n", "+OK\r\n");
        Check(reply => reply.SimpleString("PONG"u8), "+PONG\r\n", "+PONG\r\n");
        Check(reply => reply.Error("ERR no"u8), "-ERR no\r\n", "-ERR no\r\n");
        Check(reply => reply.Bulk(""u8), "$0\r\n\r\n", "$0\r\n\r\n");
        Check(reply => reply.Bulk("a\r\nb\0"u8), "$5\r\na\r\nb\0\r\n", "$5\r\na\r\nb\0\r\n");
        Check(reply => reply.Null(), "$-1\r\n", "_\r\n");
        Check(reply => reply.NullArray(), "*-1\r\n", "_\r\n");
        Check(reply => reply.ArrayHeader(0), "*0\r\n", "*0\r\n");
        Check(reply => reply.ArrayHeader(12345678901), "*12345678901\r\n", "*12345678901\r\n");
        Check(reply => reply.MapHeader(7), "*14\r\n", "%7\r\n");
        Check(reply => reply.SetHeader(3), "*3\r\n", "~3\r\n");
        Check(reply => reply.VerbatimText("a:1\r\n"u8), "$5\r\na:1\r\n\r\n", "=9\r\ntxt:a:1\r\n\r\n");
        Check(reply => reply.Raw("+x\r\n"u8), "+x\r\n", "+x\r\n");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(9)]
    [InlineData(10)]
    [InlineData(-1)]
    [InlineData(1234567)]
    [InlineData(long.MaxValue)]
    [InlineData(long.MinValue)]
    public void IntegersAreWrittenInFull(long value) =>
        Check(reply => reply.Integer(value), $":{value}\r\n", $":{value}\r\n");

    [Fact]
    public void GrowingKeepsWhatWasWritten()
    {
        using var reply = new RespWriter();
        var expected = new StringBuilder();
        for (var size = 0; size < 3000; size += 7)
        {
            reply.Bulk(Enumerable.Repeat((byte)'v', size).ToArray());
            reply.Integer(size);
            expected.Append($"${size}\r\n{new string('v', size)}\r\n:{size}\r\n");
        }

        Assert.Equal(expected.ToString(), Encoding.Latin1.GetString(reply.Written));
        Assert.Equal(expected.Length, reply.Length);
    }

    [Fact]
    public void TruncateTakesBackAndResetForgets()
    {
        using var reply = new RespWriter();
        reply.Ok();
        var length = reply.Length;
        reply.ArrayHeader(5);
        reply.Truncate(length);
        reply.Integer(1);
        Assert.Equal("+OK\r\n:1\r\n", Encoding.Latin1.GetString(reply.Written));

        reply.Bulk(new byte[1_000_000]);
        reply.Reset();
        Assert.Equal(0, reply.Length);
        reply.Ok();
        Assert.Equal("+OK\r\n", Encoding.Latin1.GetString(reply.Written));
    }

    [Fact]
    public void WritingRepliesAllocatesNothing()
    {
        using var reply = new RespWriter(3);
        var value = new byte[100];
        Write(reply, value);

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 1000; i++)
        {
            Write(reply, value);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static void Write(RespWriter reply, byte[] value)
    {
        reply.Reset();
        reply.Ok();
        reply.MapHeader(2);
        reply.Bulk(value);
        reply.Integer(1234567);
        reply.Null();
        RespError.WrongArity(reply, "GET"u8);
    }

    private static void Check(Action<RespWriter> write, string two, string three)
    {
        foreach (var (protocol, expected) in (ReadOnlySpan<(int, string)>)[(2, two), (3, three)])
        {
            using var reply = new RespWriter(protocol);
            write(reply);
            Assert.Equal(expected, Encoding.Latin1.GetString(reply.Written));
        }
    }
}
