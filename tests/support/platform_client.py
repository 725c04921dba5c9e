# The Python client of the MegaTTS3 platform's integration guide, unchanged: a test calls it.
# ruff: noqa
# fmt: off
import requests
import json
from pathlib import Path

class MegaTTS3Client:
    def __init__(self, base_url="http://localhost:9000"):
        self.base_url = base_url
        self.session = requests.Session()
    
    def health_check(self):
        """健康检查"""
        response = self.session.get(f"{self.base_url}/health")
        return response.json()
    
    def synthesize_text(self, text, voice_id, **params):
        """文本语音合成"""
        data = {
            "text": text,
            "voice_id": voice_id,
            "parameters": params
        }
        
        response = self.session.post(
            f"{self.base_url}/api/v1/tts/synthesize",
            json=data,
            stream=True
        )
        
        return response.content
    
    def synthesize_with_voice_file(self, text, voice_file_path, latent_file_path=None, **params):
        """使用音频文件进行语音克隆"""
        files = {
            'voice_file': open(voice_file_path, 'rb'),
            'text': (None, text)
        }
        
        if latent_file_path:
            files['voice_latent'] = open(latent_file_path, 'rb')
        
        for key, value in params.items():
            files[key] = (None, str(value))
        
        try:
            response = self.session.post(
                f"{self.base_url}/api/v1/tts/synthesize_file",
                files=files,
                stream=True
            )
            
            return response.content
        finally:
            # 关闭文件句柄
            for file_obj in files.values():
                if hasattr(file_obj, 'close'):
                    file_obj.close()


def upload_voice_sample(client, voice_id, voice_file, description=""):
    """上传声音样本"""
    files = {
        'voice_file': open(voice_file, 'rb'),
        'voice_id': (None, voice_id),
        'description': (None, description)
    }
    
    response = client.session.post(
        f"{client.base_url}/api/v1/voices/upload",
        files=files
    )
    
    return response.json()


def list_voices(client):
    """获取可用声音列表"""
    response = client.session.get(f"{client.base_url}/api/v1/voices")
    return response.json()
